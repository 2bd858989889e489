use super::*;
use serde_json::json;

fn render(template: &str, value: &serde_json::Value) -> Result<String> {
    Template::parse(template)?.execute(value)
}

fn data() -> serde_json::Value {
    json!({
        "Id": "b501e6e1553a0e0d4fcf72b25bdbfb34dee6ce0fb3bf23a06ba5b906cd431aa5",
        "Name": "/gold",
        "Args": ["-g", "daemon off;"],
        "ExecIDs": null,
        "State": {"Status": "running", "Pid": 22158, "Running": true},
        "Config": {"Cmd": ["nginx", "-g"], "Env": ["PATH=/bin"], "Labels": {"a": "b", "com.x.y": "z", "A": "up"}},
        "HostConfig": {"PidsLimit": null, "NanoCpus": 0, "LogConfig": {"Type": "json-file", "Config": {}}},
        "Mounts": [{"Type": "volume", "Name": "gv", "Destination": "/data", "RW": true}],
        "NetworkSettings": {
            "Ports": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18099"}]},
            "Networks": {"Labels": {"IPAddress": "172.17.0.4", "IPAMConfig": null}}
        }
    })
}

#[test]
fn prints_what_docker_prints() {
    let cases = [
        ("{{.Id | printf \"%.12s\"}} {{.ID | printf \"%.3s\"}}", "b501e6e1553a b50"),
        ("{{.State.Pid}} {{.State.Running}}", "22158 true"),
        ("{{json .State}}", r#"{"Pid":22158,"Running":true,"Status":"running"}"#),
        ("{{json .Mounts}}", r#"[{"Destination":"/data","Name":"gv","RW":true,"Type":"volume"}]"#),
        ("{{.Config.Labels}}", "map[A:up a:b com.x.y:z]"),
        ("{{.Config.Labels.nope}}", "<no value>"),
        ("{{index .Config.Labels \"nope\"}}|", "|"),
        ("{{index .Config.Labels \"com.x.y\"}}", "z"),
        ("{{.ExecIDs}} {{.HostConfig.PidsLimit}} {{.HostConfig.Annotations}}", "[] <nil> map[]"),
        ("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "18099"),
        ("{{with index .NetworkSettings.Ports \"99/tcp\"}}x{{else}}none{{end}}", "none"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "A=up;a=b;com.x.y=z;"),
        ("{{range $i, $e := .Config.Cmd}}{{if $i}},{{end}}{{$e}}{{end}}", "nginx,-g"),
        ("{{range .Mounts}}{{.Type}} {{.Name}} {{.Driver}}{{end}}", "volume gv "),
        ("{{range .ExecIDs}}x{{else}}none{{end}}", "none"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{.NetworkSettings.Networks.nope.IPAddress}}", "<no value>"),
        ("{{printf \"%T %T %q\" .Name 1 10}}", "string int '\\n'"),
        ("{{range .Config.Cmd}}{{break}}x{{end}}{{range .Config.Cmd}}{{continue}}x{{end}}.", "."),
        ("{{range $n, $c := .NetworkSettings.Networks}}{{$n}} {{$c.IPAddress}}{{end}}", "Labels 172.17.0.4"),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "172.17.0.4"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ("{{with .State.Health}}x{{end}}", ""),
        ("{{if eq .State.Status \"exited\"}}a{{else if .State.Running}}b{{else}}c{{end}}", "b"),
        ("{{with $x := .State}}{{$x.Pid}} {{.Pid}} {{$.Name}}{{end}}", "22158 22158 /gold"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("a {{- .Name -}}  b {{- /* c */ -}} d", "a/goldbd"),
        ("{{/* c */}}x", "x"),
        ("{{.Name | upper | printf \"%s-%q-%5d\"}}", "/GOLD-%!q(MISSING)-%!d(MISSING)"),
        ("{{printf \"%d %s %v\" .Name 5}}", "%!d(string=/gold) %!s(int=5) %!v(MISSING)"),
        (
            "{{printf \"%5s|%-6s|%05d|%x|%.2f|%q|%t|%%\" \"a\" \"b\" 42 255 1.5 \"q\\n\" true}}",
            "    a|b     |00042|ff|1.50|\"q\\n\"|true|%",
        ),
        ("{{printf \"x\" 1 2}}", "x%!(EXTRA int=1, int=2)"),
        ("{{printf \"%*d|%.3s|%+d|% d|%c|%U\" 4 7 \"abcdef\" 3 4 97 97}}", "   7|abc|+3| 4|a|U+0061"),
        ("{{join .Config.Cmd \",\"}} {{split \"a,b\" \",\"}}", "nginx,-g [a b]"),
        ("{{len .Config.Cmd}} {{len .Name}} {{len .ExecIDs}}", "2 5 0"),
        ("{{print 1 2 \"x\" 3 4}}", "1 2x3 4"),
        ("{{println 1 \"x\"}}", "1 x\n"),
        ("{{1.0}} {{1e30}} {{0x10}} {{ .5 }} {{'a'}} {{1_000}} {{-3}} {{1e-7}}", "1 1e+30 16 0.5 97 1000 -3 1e-07"),
        (
            "{{truncate .Name 3}} {{pad .Name 2 2}}|{{title \"hello world\"}}|{{lower \"ABC\"}}",
            "/go   /gold  |Hello World|abc",
        ),
        ("{{slice .Id 0 12}} {{slice .Config.Cmd 1}}", "b501e6e1553a [-g]"),
        ("{{json nil}} {{json .Name}} {{json \"<\\u2028\\x01\"}}", "null \"/gold\" \"<\\u2028\\u0001\""),
        ("{{and 1 0 2}} {{or 0 \"\" 3}} {{not .Name}} {{and .Name true}}", "0 3 false true"),
        (
            "{{eq .State.Pid 1 22158}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt \"b\" \"a\"}} {{ge 1 2}}",
            "true true true true true false",
        ),
        ("{{index .Config.Env 0 0}}", "80"),
        ("{{`raw\\n`}}{{\"\\t\\\"\"}}", "raw\\n\t\""),
        ("{{.Name}}}", "/gold}"),
        ("{{.HostConfig.LogConfig.Config.x}} {{.HostConfig.NanoCPUs}}", "<no value> 0"),
        ("{{(.Config).Cmd}} {{(index .Mounts 0).Type | upper}}", "[nginx -g] VOLUME"),
        ("{{printf \"%[2]s-%[1]d\" 1 \"a\"}}", "a-1"),
        ("", ""),
    ];
    for (template, expected) in cases {
        let got = render(template, &data()).unwrap_or_else(|error| format!("error: {error:#}"));
        assert_eq!(got, expected, "{template}");
    }
}

#[test]
fn refuses_as_docker_refuses() {
    let cases = [
        ("{{.Nope}}", ":1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""),
        ("{{.State.Nope}}", ":1:8: executing \"\" at <.State.Nope>: map has no entry for key \"Nope\""),
        (
            "a\n {{.State.Health.Nope.X}}",
            ":2:9: executing \"\" at <.State.Health.Nope.X>: map has no entry for key \"Health\"",
        ),
        (
            "{{index .Mounts 5}}",
            ":1:2: executing \"\" at <index .Mounts 5>: error calling index: index out of range: 5",
        ),
        (
            "{{index (index .NetworkSettings.Ports \"99/tcp\") 0}}",
            ":1:2: executing \"\" at <index (index .NetworkSettings.Ports \"99/tcp\") 0>: error calling index: index of untyped nil",
        ),
        ("{{foo}}", ":1: function \"foo\" not defined"),
        ("{{.Name", ":1: unclosed action"),
        ("{{if .Name}}x", ":1: unexpected EOF"),
        (
            "{{lt .State.Pid 3.5}}",
            ":1:2: executing \"\" at <lt .State.Pid 3.5>: error calling lt: incompatible types for comparison",
        ),
        ("{{len}}", ":1:2: executing \"\" at <len>: wrong number of args for len: want 1 got 0"),
        ("{{not 1 2}}", ":1:2: executing \"\" at <not>: wrong number of args for not: want 1 got 2"),
        ("{{.name}}", ":1:2: executing \"\" at <.name>: map has no entry for key \"name\""),
        ("{{upper 5}}", ":1:8: executing \"\" at <5>: expected string; found 5"),
        (
            "{{upper .State.Pid}}",
            ":1:14: executing \"\" at <.State.Pid>: wrong type for value; expected string; got int",
        ),
        ("{{@}}", ":1: unexpected \"@\" in command"),
        ("{{.Name)}}", ":1: unexpected right paren"),
        ("{{9223372036854775808}}", ":1: bad number syntax: \"9223372036854775808\""),
        ("{{.Name.Foo}}", ":1:7: executing \"\" at <.Name.Foo>: can't evaluate field Foo in type interface {}"),
        ("{{template \"x\"}}", ":1: {{template}} is not supported"),
        ("{{html .Name}}", ":1: function \"html\" is not supported"),
        ("{{}}", ":1: missing value for command"),
        ("{{if}}x{{end}}", ":1: missing value for if"),
        ("{{.Name | 5}}", ":1: non executable command in pipeline stage 2"),
        ("{{$x}}", ":1: undefined variable \"$x\""),
        ("{{if true}}{{$x := 1}}{{end}}{{$x}}", ":1: undefined variable \"$x\""),
        ("{{range .Name}}x{{end}}", ":1:8: executing \"\" at <.Name>: range can't iterate over /gold"),
        ("{{\"abc", ":1: unterminated quoted string"),
        ("{{.Name \"x\"}}", ":1:2: executing \"\" at <.Name>: Name is not a method but has arguments"),
        ("{{nil}}", ":1:2: executing \"\" at <nil>: nil is not a command"),
        ("{{5 6}}", ":1:2: executing \"\" at <5>: can't give argument to non-function 5"),
        ("{{else}}", ":1: unexpected {{else}}"),
        ("x\n{{end}}", ":2: unexpected {{end}}"),
        ("{{.Name }", ":1: unexpected \"}\" in operand"),
        ("{{/* c }}", ":1: unclosed comment"),
        ("{{break}}", ":1: {{break}} outside {{range}}"),
        ("{{(.Name}}", ":1: unclosed left paren"),
        (
            "{{index .State 1}}",
            ":1:2: executing \"\" at <index .State 1>: error calling index: value has type int; should be string",
        ),
    ];
    for (template, expected) in cases {
        let got = render(template, &data()).map_or_else(|error| format!("{error:#}"), |text| format!("printed {text}"));
        assert_eq!(got, format!("template parsing error: template: {expected}"), "{template}");
    }
}

/// Random pieces of templates, well formed or not, end in text or an error and never in a panic.
#[test]
fn random_templates_do_not_panic() {
    let pieces = [
        "{{",
        "}}",
        "{{-",
        "-}}",
        " ",
        ".",
        "$",
        "$x",
        ":=",
        "=",
        "|",
        "(",
        ")",
        ",",
        "\"",
        "`",
        "'",
        "\\",
        "/*",
        "*/",
        "if",
        "else",
        "end",
        "range",
        "with",
        "break",
        "printf",
        "index",
        "slice",
        "json",
        "join",
        "truncate",
        "%",
        "%9d",
        "0",
        "-1",
        "9999999999999999999999",
        "1e9",
        "0x",
        "1.5",
        ".Name",
        ".Config",
        ".Labels",
        "nil",
        "true",
        "\u{e9}",
        "\u{1f6a2}",
        "\n",
        "\0",
        "\\u",
        "\\x4",
        "pad",
        "é\"",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let node = Node::of(&data()).unwrap();
    let mut read = 0;
    for _ in 0..4_000 {
        let mut text = String::new();
        for _ in 0..1 + random() % 12 {
            text.push_str(pieces[random() % pieces.len()]);
            if random() % 3 == 0 {
                text.push(' ');
            }
        }
        if random() % 2 == 0 {
            text = format!("{{{{{text}}}}}");
        }
        if let Ok(template) = Template::parse(&text) {
            read += 1;
            // A range over a number may be long; what is asked here is that nothing panics.
            if !text.contains("range") {
                let _ = template.walk(&node);
            }
        }
    }
    assert!(read > 50, "only {read} were well formed");
    assert!(Template::parse(&"{{(".repeat(100_000)).is_err());
    assert!(Template::parse(&format!("{{{{{}", "(".repeat(100_000))).is_err());
    assert!(Template::parse(&"{{if true}}".repeat(100_000)).is_err());
    assert!(Template::parse(&format!("{{{{if 1}}}}{}", "{{else if 1}}".repeat(100_000))).is_err());
}
