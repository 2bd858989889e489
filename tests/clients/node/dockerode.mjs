// What users of dockerode do, part by part: dockerode.mjs PART. The daemon is DOCKER_HOST's; the image busybox is there.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { PassThrough, Readable } from "node:stream";
import { buffer, text } from "node:stream/consumers";

// From the folder that NODE_PATH names: imports do not look there.
const Docker = createRequire(import.meta.url)("dockerode");
const docker = new Docker();
const base = { Image: "busybox", HostConfig: { NetworkMode: "none" } };
const create = (line, more = {}) => docker.createContainer({ ...base, Cmd: ["sh", "-c", line], ...more });

async function refused(status, words, call) {
  await assert.rejects(call, (error) => {
    assert.equal(error.statusCode, status);
    assert.ok(error.message.includes(words), error.message);
    return true;
  });
}

/** What a stream with frames says: standard output and error. */
async function apart(stream) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, out, err);
  stream.on("end", () => (out.end(), err.end()));
  return Promise.all([text(out), text(err)]);
}

/** A tar of one file, by hand. */
function tarOf(name, content) {
  const head = Buffer.alloc(512);
  head.write(name, 0);
  head.write("0000644\0" + "0000000\0" + "0000000\0", 100);
  head.write(content.length.toString(8).padStart(11, "0") + "\0" + "07346545000\0" + "        0", 124);
  head.write("ustar\0" + "00", 257);
  const sum = head.reduce((sum, byte) => sum + byte, 0);
  head.write(sum.toString(8).padStart(6, "0") + "\0 ", 148);
  const body = Buffer.alloc(Math.ceil(content.length / 512) * 512);
  body.write(content);
  return Buffer.concat([head, body, Buffer.alloc(1024)]);
}

/** The messages of a build, to its end. */
function told(stream) {
  return new Promise((done, failed) => {
    docker.modem.followProgress(stream, (error, lines) => (error ? failed(error) : done(lines)));
  });
}

const parts = {
  async builds() {
    const context = await mkdtemp(`${tmpdir()}/harbour-`);
    const lines = "FROM busybox AS one\nARG who=nobody\nRUN echo hello $who | tee /said\nFROM one\nCOPY x /x\nLABEL a=b\n";
    await writeFile(`${context}/Dockerfile`, lines);
    await writeFile(`${context}/x`, "content");
    const options = { t: "harbour/made:1", networkmode: "none", buildargs: { who: "me" }, labels: { c: "d" } };
    const from = { context, src: ["Dockerfile", "x"] };
    const first = await told(await docker.buildImage(from, options));
    const said = (lines) => lines.map((line) => line.stream ?? "").join("");
    for (const part of ["Step 1/6 : FROM busybox AS one", "hello me", "Successfully tagged harbour/made:1"]) {
      assert.ok(said(first).includes(part), said(first));
    }
    const image = await docker.getImage("harbour/made:1").inspect();
    assert.deepEqual(first.find((line) => line.aux).aux, { ID: image.Id });
    assert.deepEqual(image.Config.Labels, { a: "b", c: "d" });
    const box = await create("cat /said /x", { Image: "harbour/made:1" });
    await box.start();
    await box.wait();
    assert.deepEqual(await apart(await box.logs({ follow: true, stdout: true })), ["hello me\ncontent", ""]);
    const again = await told(await docker.buildImage(from, { ...options, cachefrom: ["harbour/made:1"] }));
    assert.equal((said(again).match(/Using cache/g) ?? []).length, 2, said(again));
    const one = await told(await docker.buildImage(from, { networkmode: "none", target: "one" }));
    assert.ok(said(one).includes("hello nobody"), said(one));
    const failing = Readable.from([tarOf("Dockerfile", "FROM busybox\nRUN exit 3\n")]);
    await assert.rejects(
      async () => {
        const lines = await told(await docker.buildImage(failing, { networkmode: "none" }));
        throw new Error(lines.at(-1).error);
      },
      /returned a non-zero code: 3/,
    );
    await refused(400, "lowercase", () => docker.buildImage(Readable.from([tarOf("Dockerfile", "")]), { t: "UPPER" }));
  },

  async containers() {
    const box = await create("echo out; echo err >&2; exit 3", { name: "hull", Labels: { sea: "red" } });
    const stream = await box.attach({ stream: true, stdout: true, stderr: true });
    const said = apart(stream);
    await box.start();
    assert.deepEqual(await box.wait(), { StatusCode: 3 });
    assert.deepEqual(await said, ["out\n", "err\n"]);
    const shown = await box.inspect();
    assert.deepEqual([shown.Name, shown.State.Status, shown.State.ExitCode], ["/hull", "exited", 3]);
    const logs = await box.logs({ stdout: true, stderr: true });
    assert.equal(logs.length, 8 + 4 + 8 + 4);
    assert.deepEqual(await apart(await box.logs({ follow: true, stderr: true, tail: 1 })), ["", "err\n"]);
    const listed = await docker.listContainers({ all: true, filters: { label: ["sea=red"] } });
    assert.deepEqual(listed.map((it) => [it.Names, it.Image, it.State]), [[["/hull"], "busybox", "exited"]]);
    await refused(409, "is already in use by container", () => create("true", { name: "hull" }));
    await refused(304, "container already stopped", () => box.stop());
    await box.remove();
    await refused(404, "No such container: " + box.id, () => box.inspect());
    await refused(404, "No such image: no/such:image", () => docker.createContainer({ Image: "no/such:image" }));

    // run: create, attach, start and wait in one.
    const out = new PassThrough();
    const [ended, ran] = await docker.run("busybox", ["echo", "ahoy"], out, base);
    assert.deepEqual([ended.StatusCode, await text(out)], [0, "ahoy\r\n"]);
    await ran.remove();

    // A shell on a terminal, its input hijacked.
    const shell = await docker.createContainer({ ...base, Cmd: ["sh"], Tty: true, OpenStdin: true, StdinOnce: true });
    const terminal = await shell.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
    const everything = text(terminal);
    await shell.start();
    await shell.resize({ h: 33, w: 77 });
    terminal.write("stty size\nexit 4\n");
    assert.deepEqual(await shell.wait(), { StatusCode: 4 });
    assert.match(await everything, /33 77\r\n/);
    await shell.remove();
    assert.deepEqual(await docker.pruneContainers(), { ContainersDeleted: null, SpaceReclaimed: 0 });
  },

  async execs() {
    const box = await create("while :; do sleep 0.1; done");
    await box.start();
    const run = async (Cmd, more = {}) => {
      const exec = await box.exec({ Cmd, AttachStdout: true, AttachStderr: true, ...more });
      const said = await apart(await exec.start({ hijack: true, stdin: Boolean(more.AttachStdin), ...more.start }));
      return [...said, (await exec.inspect()).ExitCode];
    };
    assert.deepEqual(await run(["sh", "-c", "echo out; echo err >&2; exit 9"]), ["out\n", "err\n", 9]);
    assert.deepEqual(await run(["sh", "-c", "echo $A; pwd; id -u"], { Env: ["A=b"], WorkingDir: "/tmp", User: "1000" }), ["b\n/tmp\n1000\n", "", 0]);

    const cat = await box.exec({ Cmd: ["cat"], AttachStdin: true, AttachStdout: true });
    const stream = await cat.start({ hijack: true, stdin: true });
    const through = apart(stream);
    stream.write("down the wire");
    stream.end();
    assert.deepEqual(await through, ["down the wire", ""]);
    assert.equal((await cat.inspect()).ExitCode, 0);

    const first = await box.stats({ stream: false });
    assert.deepEqual([first.name.length > 1, first.precpu_stats.system_cpu_usage > 0], [true, true]);
    const live = await box.stats({ stream: true });
    const [chunk] = await once(live, "data");
    assert.equal(JSON.parse(chunk).id, box.id);
    live.destroy();

    await box.putArchive(tarOf("cargo", "tea\n"), { path: "/tmp" });
    assert.deepEqual(await run(["cat", "/tmp/cargo"]), ["tea\n", "", 0]);
    const tar = await buffer(await box.getArchive({ path: "/tmp/cargo" }));
    assert.deepEqual([tar.toString("latin1", 0, 5), tar.toString("latin1", 512, 516)], ["cargo", "tea\n"]);
    const stat = await box.infoArchive({ path: "/tmp/cargo" });
    stat.resume();
    const said = JSON.parse(Buffer.from(stat.headers["x-docker-container-path-stat"], "base64"));
    assert.deepEqual([said.name, said.size, said.linkTarget], ["cargo", 4, ""]);
    const changes = await box.changes();
    assert.deepEqual(changes.find((it) => it.Path === "/tmp/cargo"), { Path: "/tmp/cargo", Kind: 1 });

    const made = await box.commit({ repo: "ship/hold", tag: "one", comment: "laden", changes: "ENV CARGO=tea" });
    assert.match(made.Id, /^sha256:[0-9a-f]{64}$/);
    const image = docker.getImage("ship/hold:one");
    assert.ok((await image.inspect()).Config.Env.includes("CARGO=tea"));
    await box.remove({ force: true, v: true });
    const saved = await buffer(await image.get());
    assert.ok((await image.remove()).some((it) => it.Untagged === "ship/hold:one"));
    await refused(404, "No such image: ship/hold:one", () => image.inspect());
    const answer = await text(await docker.loadImage(saved));
    assert.equal(JSON.parse(answer.trim().split("\r\n").pop()).stream, "Loaded image: ship/hold:one\n");
    await image.remove();
  },

  async system() {
    assert.equal((await docker.ping()).toString(), "OK");
    assert.equal((await docker.version()).ApiVersion, "1.51");
    assert.equal((await docker.info()).OSType, "linux");
    const begun = Math.floor(Date.now() / 1000) - 1;
    const events = await docker.getEvents({ filters: { type: ["container"], event: ["create", "start", "die", "destroy"] } });
    const seen = [];
    const over = new Promise((done) => {
      events.on("data", (chunk) => {
        for (const line of chunk.toString().trim().split("\n")) seen.push(JSON.parse(line));
        if (seen.at(-1).Action === "destroy") done();
      });
    });
    // Whoever waits for its removal has had time to say so.
    const box = await create("sleep 2; exit 6", { name: "hull", HostConfig: { NetworkMode: "none", AutoRemove: true } });
    const ended = box.wait({ condition: "removed" });
    await box.start();
    assert.deepEqual(await ended, { StatusCode: 6 });
    await over;
    events.destroy();
    assert.deepEqual(seen.map((it) => it.Action), ["create", "start", "die", "destroy"]);
    assert.deepEqual([seen[2].Actor.ID, seen[2].Actor.Attributes.exitCode], [box.id, "6"]);
    const past = await docker.getEvents({ since: begun, until: Math.floor(Date.now() / 1000) + 1, filters: { event: ["die"] } });
    assert.equal((await text(past)).trim().split("\n").length, 1);

    const volume = await docker.createVolume({ Name: "hold", Labels: { deck: "lower" } });
    assert.equal((await docker.getVolume("hold").inspect()).Labels.deck, "lower");
    assert.deepEqual((await docker.listVolumes({ filters: { label: ["deck=lower"] } })).Volumes.map((it) => it.Name), ["hold"]);
    await docker.getVolume(volume.name ?? volume.Name).remove();
    assert.deepEqual((await docker.listNetworks({ filters: { type: ["builtin"], name: ["none"] } })).map((it) => it.Driver), ["null"]);
    assert.deepEqual((await docker.df()).Volumes, []);
    await refused(503, "This node is not a swarm manager", () => docker.listServices());

    // pull, its progress followed to the end.
    const name = process.env.REGISTRY + "/busybox:latest";
    const stream = await docker.pull(name);
    const lines = await new Promise((done, failed) => docker.modem.followProgress(stream, (error, lines) => (error ? failed(error) : done(lines))));
    assert.equal(lines.at(-1).status, `Status: Downloaded newer image for ${name}`);
    await docker.getImage(name).remove();
    await refused(404, "", () => docker.pull(process.env.REGISTRY + "/no/such:image"));
  },
};

await parts[process.argv[2]]();
