// What programs in Go do with Docker's own SDK, as Traefik, Portainer and Ryuk do: harbour PART.
//
// The daemon is DOCKER_HOST's; the image busybox is there, and in the registry REGISTRY.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/jsonmessage"
	"github.com/docker/docker/pkg/stdcopy"
)

var (
	docker *client.Client
	// Nothing here waits for ever.
	ctx, _ = context.WithTimeout(context.Background(), 10*time.Minute)
)

func main() {
	docker = must(client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation()))
	parts := map[string]func(){"watching": watching, "streams": streams, "images": images, "reaping": reaping}
	parts[os.Args[1]]()
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(got, want any) {
	if !reflect.DeepEqual(got, want) {
		panic(fmt.Sprintf("%#v is not %#v", got, want))
	}
}

func has(text, part string) {
	if !strings.Contains(text, part) {
		panic(fmt.Sprintf("%q is not in %q", part, text))
	}
}

// create makes a container without a network; its id.
func create(name string, config *container.Config) string {
	config.Image = "busybox"
	host := &container.HostConfig{NetworkMode: "none"}
	made := must(docker.ContainerCreate(ctx, config, host, nil, nil, name))
	equal(len(made.Warnings), 0)
	return made.ID
}

func start(id string) { check(docker.ContainerStart(ctx, id, types.ContainerStartOptions{})) }

func remove(id string) {
	check(docker.ContainerRemove(ctx, id, types.ContainerRemoveOptions{Force: true, RemoveVolumes: true}))
}

// split reads a stream of frames to its end.
func split(reader io.Reader) (string, string) {
	var out, err bytes.Buffer
	must(stdcopy.StdCopy(&out, &err, reader))
	return out.String(), err.String()
}

// messages reads the messages of a pull, a load or a build to their end; what they say, and what was told aside.
func messages(reader io.ReadCloser) (said string, aside []json.RawMessage) {
	defer reader.Close()
	var out bytes.Buffer
	check(jsonmessage.DisplayJSONMessagesStream(reader, &out, 0, false, func(message jsonmessage.JSONMessage) {
		aside = append(aside, *message.Aux)
	}))
	return out.String(), aside
}

func tarball(files map[string]string) *bytes.Buffer {
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for name, content := range files {
		check(writer.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
		must(writer.Write([]byte(content)))
	}
	check(writer.Close())
	return &buffer
}

// watching is what Traefik's provider does, and Portainer's snapshot.
func watching() {
	ping := must(docker.Ping(ctx))
	equal(ping.OSType, "linux")
	equal(must(docker.ServerVersion(ctx)).MinAPIVersion, "1.24")
	equal(docker.ClientVersion() != "", true)
	heard, failed := docker.Events(ctx, types.EventsOptions{Filters: filters.NewArgs(filters.Arg("type", "container"))})

	labels := map[string]string{"traefik.enable": "true"}
	health := &container.HealthConfig{Test: []string{"CMD", "true"}, Interval: 200 * time.Millisecond}
	id := create("hull", &container.Config{Cmd: []string{"sleep", "1000"}, Labels: labels, Healthcheck: health})
	create("wreck", &container.Config{Cmd: []string{"true"}})
	start(id)
	expect := func(actions ...string) {
		for len(actions) > 0 {
			select {
			case event := <-heard:
				equal(event.Type, events.ContainerEventType)
				if event.Action == actions[0] && event.Actor.ID == id {
					equal(event.Actor.Attributes["traefik.enable"], "true")
					actions = actions[1:]
				}
			case err := <-failed:
				panic(err)
			}
		}
	}
	expect("create", "start", "health_status: healthy")

	enabled := filters.NewArgs(filters.Arg("label", "traefik.enable=true"), filters.Arg("status", "running"))
	list := must(docker.ContainerList(ctx, types.ContainerListOptions{Filters: enabled}))
	equal(len(list), 1)
	equal([]any{list[0].ID, list[0].Names[0], list[0].State}, []any{id, "/hull", "running"})
	has(list[0].Status, "(healthy)")
	shown := must(docker.ContainerInspect(ctx, id))
	equal([]any{shown.State.Running, shown.State.Health.Status, shown.Config.Labels}, []any{true, "healthy", labels})
	equal(shown.HostConfig.NetworkMode.IsNone(), true)
	equal(shown.NetworkSettings.Networks["none"] != nil, true)
	none := types.NetworkListOptions{Filters: filters.NewArgs(filters.Arg("name", "none"))}
	networks := must(docker.NetworkList(ctx, none))
	equal([]any{len(networks), networks[0].Driver, networks[0].Scope}, []any{1, "null", "local"})

	info := must(docker.Info(ctx))
	equal([]any{info.Containers, info.ContainersRunning, info.ContainersStopped, info.Images}, []any{2, 1, 1, 1})
	equal(string(info.Swarm.LocalNodeState), "inactive")
	used := must(docker.DiskUsage(ctx))
	equal([]any{len(used.Images), len(used.Containers)}, []any{1, 2})
	answer := must(docker.ContainerStats(ctx, id, true))
	decoder := json.NewDecoder(answer.Body)
	var first, second types.StatsJSON
	check(decoder.Decode(&first))
	check(decoder.Decode(&second))
	check(answer.Body.Close())
	equal([]any{second.Name, second.PreRead}, []any{"/hull", first.Read})
	equal(second.CPUStats.SystemUsage > first.CPUStats.SystemUsage, true)
	top := must(docker.ContainerTop(ctx, id, nil))
	has(strings.Join(top.Processes[0], " "), "sleep 1000")

	soon := time.Duration(0)
	check(docker.ContainerRestart(ctx, id, &soon))
	expect("die", "start")
	remove(id)
	expect("die", "destroy")
	_, err := docker.ContainerInspect(ctx, id)
	equal(client.IsErrNotFound(err), true)
}

// streams are attached to, executed, logged and waited for.
func streams() {
	id := create("", &container.Config{
		Cmd: []string{"sh", "-c", "cat; echo done >&2; exit 7"}, OpenStdin: true, StdinOnce: true, AttachStdin: true,
	})
	all := types.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true}
	attached := must(docker.ContainerAttach(ctx, id, all))
	ended, failed := docker.ContainerWait(ctx, id, container.WaitConditionNextExit)
	start(id)
	// More than any buffer on the way holds.
	sent := strings.Repeat("tea and rum\n", 100000)
	go func() {
		io.WriteString(attached.Conn, sent)
		attached.CloseWrite()
	}()
	out, err := split(attached.Reader)
	attached.Close()
	equal(out == sent, true)
	equal(err, "done\n")
	select {
	case body := <-ended:
		equal([]any{body.StatusCode, body.Error == nil}, []any{int64(7), true})
	case err := <-failed:
		panic(err)
	}
	both := types.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: true}
	logs := must(docker.ContainerLogs(ctx, id, both))
	out, err = split(logs)
	equal(out == sent && err == "done\n", true)
	logs = must(docker.ContainerLogs(ctx, id, types.ContainerLogsOptions{ShowStderr: true, Timestamps: true}))
	_, err = split(logs)
	must(time.Parse(time.RFC3339Nano, strings.Fields(err)[0]))
	remove(id)

	id = create("", &container.Config{Cmd: []string{"sleep", "1000"}})
	start(id)
	run := func(config types.ExecConfig, input string) (string, string, int) {
		config.AttachStdin, config.AttachStdout, config.AttachStderr = input != "", true, true
		made := must(docker.ContainerExecCreate(ctx, id, config)).ID
		stream := must(docker.ContainerExecAttach(ctx, made, types.ExecStartCheck{Tty: config.Tty}))
		defer stream.Close()
		if input != "" {
			must(io.WriteString(stream.Conn, input))
			check(stream.CloseWrite())
		}
		var out, err string
		if config.Tty {
			check(docker.ContainerExecResize(ctx, made, types.ResizeOptions{Height: 40, Width: 90}))
			out = string(must(io.ReadAll(stream.Reader)))
		} else {
			out, err = split(stream.Reader)
		}
		shown := must(docker.ContainerExecInspect(ctx, made))
		equal([]any{shown.Running, shown.ContainerID}, []any{false, id})
		return out, err, shown.ExitCode
	}
	cat := []string{"sh", "-c", "cat; echo $A >&2; exit 3"}
	out, err, code := run(types.ExecConfig{Cmd: cat, Env: []string{"A=b"}}, "ahoy")
	equal([]any{out, err, code}, []any{"ahoy", "b\n", 3})
	out, _, code = run(types.ExecConfig{Cmd: []string{"sh", "-c", "until stty size 2>/dev/null | grep 40; do sleep 0.05; done"}, Tty: true}, "")
	equal([]any{out, code}, []any{"40 90\r\n", 0})
	_, _, code = run(types.ExecConfig{Cmd: []string{"no-such-program"}}, "")
	equal(code, 127)

	cargo := tarball(map[string]string{"cargo": "tea"})
	check(docker.CopyToContainer(ctx, id, "/tmp", cargo, types.CopyToContainerOptions{}))
	content, stat, failure := docker.CopyFromContainer(ctx, id, "/tmp/cargo")
	check(failure)
	equal([]any{stat.Name, stat.Size}, []any{"cargo", int64(3)})
	reader := tar.NewReader(content)
	must(reader.Next())
	equal(string(must(io.ReadAll(reader))), "tea")
	content.Close()
	equal(len(must(docker.ContainerDiff(ctx, id))) > 0, true)
	remove(id)
}

// images are built, saved, loaded, pulled and removed.
func images() {
	const steps = "FROM busybox\nARG WHAT\nCOPY cargo /\nRUN echo $WHAT >>/cargo"
	files := tarball(map[string]string{"Dockerfile": steps, "cargo": "tea\n"})
	rum := "rum"
	arguments, labels := map[string]*string{"WHAT": &rum}, map[string]string{"a": "b"}
	options := types.ImageBuildOptions{Tags: []string{"hold:1"}, Remove: true, BuildArgs: arguments, Labels: labels}
	answer := must(docker.ImageBuild(ctx, files, options))
	said, aside := messages(answer.Body)
	has(said, "Step 4/4 : RUN echo $WHAT >>/cargo")
	has(said, "Successfully tagged hold:1")
	var built struct{ ID string }
	check(json.Unmarshal(aside[len(aside)-1], &built))
	shown, _, err := docker.ImageInspectWithRaw(ctx, "hold:1")
	check(err)
	equal([]any{shown.ID, shown.Config.Labels["a"]}, []any{built.ID, "b"})
	equal(len(must(docker.ImageHistory(ctx, "hold:1"))) >= 3, true)
	files = tarball(map[string]string{"Dockerfile": "FROM busybox\nRUN exit 9"})
	answer = must(docker.ImageBuild(ctx, files, types.ImageBuildOptions{Remove: true}))
	err = jsonmessage.DisplayJSONMessagesStream(answer.Body, io.Discard, 0, false, nil)
	equal(err.(*jsonmessage.JSONError).Code, 9)

	saved := must(io.ReadAll(must(docker.ImageSave(ctx, []string{"hold:1"}))))
	gone := must(docker.ImageRemove(ctx, "hold:1", types.ImageRemoveOptions{}))
	equal(gone[0].Untagged, "hold:1")
	loaded := must(docker.ImageLoad(ctx, bytes.NewReader(saved), false))
	equal(loaded.JSON, true)
	said, _ = messages(loaded.Body)
	has(said, "Loaded image: hold:1")
	again, _, err := docker.ImageInspectWithRaw(ctx, "hold:1")
	check(err)
	equal(again.ID, built.ID)

	name := os.Getenv("REGISTRY") + "/busybox:latest"
	said, _ = messages(must(docker.ImagePull(ctx, name, types.ImagePullOptions{})))
	has(said, "Status: Downloaded newer image for "+name)
	_, err = docker.ImagePull(ctx, os.Getenv("REGISTRY")+"/nope", types.ImagePullOptions{})
	equal(client.IsErrNotFound(err), true)
	found := must(docker.ImageList(ctx, types.ImageListOptions{Filters: filters.NewArgs(filters.Arg("reference", name))}))
	equal([]any{len(found), found[0].RepoTags[0]}, []any{1, name})
}

// reaping is what Ryuk does with what has a label.
func reaping() {
	labels := map[string]string{"session": "1"}
	net := must(docker.NetworkCreate(ctx, "sea", types.NetworkCreate{Labels: labels, CheckDuplicate: true}))
	config := &container.Config{Image: "busybox", Cmd: []string{"sleep", "1000"}, Labels: labels}
	end := map[string]*network.EndpointSettings{"sea": {Aliases: []string{"keel"}}}
	ends := &network.NetworkingConfig{EndpointsConfig: end}
	made := must(docker.ContainerCreate(ctx, config, &container.HostConfig{NetworkMode: "sea"}, ends, nil, ""))
	start(made.ID)
	inside := must(docker.NetworkInspect(ctx, net.ID, types.NetworkInspectOptions{}))
	equal(inside.Containers[made.ID].IPv4Address != "", true)
	has(docker.NetworkRemove(ctx, net.ID).Error(), "has active endpoints")
	session := filters.NewArgs(filters.Arg("label", "session=1"))
	for _, found := range must(docker.ContainerList(ctx, types.ContainerListOptions{All: true, Filters: session})) {
		remove(found.ID)
	}
	for _, found := range must(docker.NetworkList(ctx, types.NetworkListOptions{Filters: session})) {
		check(docker.NetworkRemove(ctx, found.ID))
	}
	equal(client.IsErrNotFound(docker.NetworkRemove(ctx, net.ID)), true)
	equal(len(must(docker.ContainerList(ctx, types.ContainerListOptions{All: true}))), 0)
	equal(len(must(docker.VolumeList(ctx, session)).Volumes), 0)
	equal(len(must(docker.ContainersPrune(ctx, session)).ContainersDeleted), 0)
}
