use super::*;

#[test]
fn each_rule_has_its_say() {
    let ignore = Ignore::read(b"**/left").unwrap();
    let base = |name: &str| {
        let env = vec![("here".to_owned(), "/".to_owned())];
        (name == "known").then_some(Base { env, shell: true })
    };
    let around = Around { ignore: &ignore, base: &base, needed: None, wish: None };
    for (text, expected) in [
        ("FROM a\nRUN x", vec![]),
        ("FROM a\nrun x\nRUN y", vec!["ConsistentInstructionCasing"]),
        ("FROM a AS x\nFROM b AS x", vec!["DuplicateStageName"]),
        ("FROM a AS scratch", vec!["ReservedStageName"]),
        ("FROM a AS Ab", vec!["StageNameCasing"]),
        ("FROM a as b", vec!["FromAsCasing"]),
        ("FROM a\nRUN x \\\n\n y", vec!["NoEmptyContinuation"]),
        ("FROM a\nCMD x", vec!["JSONArgsRecommended"]),
        ("FROM a\nSHELL [\"b\"]\nCMD x", vec![]),
        ("FROM known\nCMD x", vec![]),
        ("FROM a\nCMD x\nFROM b AS c\nSHELL [\"b\"]\nFROM c\nCMD x", vec!["JSONArgsRecommended"]),
        ("ARG x\nfrom a\nrun y", vec![]),
        ("From a\nrun y", vec!["ConsistentInstructionCasing"]),
        ("FROM a\nMAINTAINER x", vec!["MaintainerDeprecated"]),
        ("ARG x=a\nFROM $x", vec![]),
        ("FROM a$x", vec!["UndefinedArgInFrom"]),
        ("ARG x\nFROM a:$x", vec!["InvalidDefaultArgInFrom"]),
        ("ARG y=b\nARG x=$y\nFROM a:$x", vec![]),
        ("FROM a\nWORKDIR x\nWORKDIR y", vec!["WorkdirRelativePath"]),
        ("FROM a\nWORKDIR /x\nWORKDIR y", vec![]),
        ("FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y", vec![]),
        ("FROM known\nARG d=x\nWORKDIR $here\n", vec![]),
        ("FROM known\nARG d=x\nWORKDIR $d\n", vec!["WorkdirRelativePath"]),
        ("FROM scratch\nENV a=$b", vec!["UndefinedVar"]),
        ("FROM scratch\nARG b\nENV a=$b c=$PATH", vec![]),
        ("FROM scratch\nENV a=$TARGETARCH", vec!["UndefinedVar"]),
        ("FROM known\nENV a=$here b=$nowhere", vec!["UndefinedVar"]),
        ("FROM a\nENV a=$b", vec![]),
        ("FROM known\nENV a=${b:-c}", vec!["UndefinedVar"]),
        ("FROM known\nEXPOSE $b\nRUN $b", vec![]),
        ("FROM known\nCOPY --chown=$b <<C <<'D' /\n$c\nC\n$d\nD", vec!["UndefinedVar", "UndefinedVar"]),
        ("FROM known\nRUN --mount=type=cache,target=$b x", vec!["UndefinedVar"]),
        ("FROM known AS x\nARG c\nENV e=1\nFROM X\nENV a=$e$here b=$c", vec![]),
        ("FROM known AS x\nARG c\nENV e=1\nFROM known\nENV a=$e$c", vec!["UndefinedVar", "UndefinedVar"]),
        (
            "# check=experimental=CopyIgnoredFile\nFROM a\nCOPY x/left . \nADD left /",
            vec!["CopyIgnoredFile", "CopyIgnoredFile"],
        ),
        ("# check=experimental=all\nFROM a\nCOPY y $left . \nCOPY --from=b left /\nADD https://h/left /", vec![]),
        ("FROM a\nCOPY x/left . \n", vec![]),
        (
            "# check=experimental=all\n\n# base is it\nFROM a AS base\n# other\nARG x\n# y, too\nARG y",
            vec!["InvalidDefinitionDescription"; 2],
        ),
        ("# check=experimental=InvalidDefinitionDescription\n# what\n#\nARG x\n# x it is\nARG x y\nFROM a", vec![]),
        ("# what\nFROM a AS base", vec![]),
        ("FROM a\n# check=skip=JSONArgsRecommended told why\nCMD x\nENTRYPOINT y", vec!["JSONArgsRecommended"]),
        ("FROM a\nCMD [\"x\"]\nCMD [\"y\"]", vec!["MultipleInstructionsDisallowed"]),
        ("FROM a\nENV x y", vec!["LegacyKeyValueFormat"]),
        ("FROM --platform=$TARGETPLATFORM a", vec!["RedundantTargetPlatform"]),
        ("FROM --platform=linux/amd64 a", vec!["FromPlatformFlagConstDisallowed"]),
        ("FROM --platform=linux/amd64 a AS b-amd64", vec![]),
        ("FROM --platform=$BUILDPLATFORM a", vec![]),
        ("FROM a\nARG DB_PASSWORD\nENV PUBLIC_KEY=1", vec!["SecretsUsedInArgOrEnv"]),
        ("FROM a\nEXPOSE 80/TCP 1:2", vec!["ExposeInvalidFormat", "ExposeProtoCasing"]),
        ("# check=skip=JSONArgsRecommended\nFROM a\nCMD x", vec![]),
        ("# check=skip=all\nFROM a as B\nCMD x", vec![]),
    ] {
        let file = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap();
        let (warnings, error) = check(&file, &around).unwrap();
        let rules: Vec<&str> = warnings.iter().map(|warning| warning.rule).collect();
        assert_eq!((rules, error), (expected, false), "{text}");
    }
    let file = Dockerfile::parse("Dockerfile", b"# check=error=true\nFROM a\nCMD x").unwrap();
    let (warnings, error) = check(&file, &around).unwrap();
    assert!(error);
    let skipped = check(&file, &Around { wish: Some("skip=all"), ..around }).unwrap();
    assert_eq!(skipped, (Vec::new(), false), "the argument goes before the directive");
    let text = show(&file, &warnings);
    assert!(text.starts_with("Check complete, 1 warning has been found!") && text.contains("Dockerfile:3:1: CMD x"));
    for (wish, message) in [
        ("what=1", "invalid check option \"what\""),
        ("all", "invalid check option \"all\""),
        ("error=perhaps", "check option \"error=perhaps\" is neither true nor false"),
    ] {
        let refused = check(&file, &Around { wish: Some(wish), ..around }).unwrap_err();
        assert_eq!(refused.to_string(), message);
    }
}

#[test]
fn programs_are_told_what_people_are() {
    let file = Dockerfile::parse("Dockerfile", b"FROM a\nCMD x \\\n y\n").unwrap();
    let around = Around { ignore: &Ignore::default(), base: &|_| None, needed: None, wish: None };
    let told = json(&file, &check(&file, &around).unwrap().0).unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let line = |line: usize| serde_json::json!({ "start": { "line": line }, "end": { "line": line } });
    let warning = &told["warnings"][0];
    assert_eq!(warning["ruleName"], "JSONArgsRecommended");
    assert_eq!(warning["url"], "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/");
    assert_eq!(warning["location"], serde_json::json!({ "ranges": [line(2), line(3)] }));
    assert_eq!(told["sources"][0]["filename"], "Dockerfile");
    assert_eq!(told["sources"][0]["data"], crate::api::base64::encode(b"FROM a\nCMD x \\\n y\n"));
    for (rule, about) in RULES {
        assert!(!about.is_empty() && !rules::url(rule).contains("--"), "{rule}");
    }
}
