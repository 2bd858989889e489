use super::*;

#[test]
fn elements_are_keyed_by_what_was_published() {
    for (host, container, map, key, data) in [
        ("0.0.0.0:8080", "172.17.0.2:80", "any", vec![6, 0, 0, 0, 0x1f, 0x90, 0, 0], vec![172, 17, 0, 2, 0, 80, 0, 0]),
        (
            "127.0.0.1:53",
            "172.17.0.2:53",
            "at",
            vec![127, 0, 0, 1, 6, 0, 0, 0, 0, 53, 0, 0],
            vec![172, 17, 0, 2, 0, 53, 0, 0],
        ),
    ] {
        let (host, container) = (host.parse().unwrap(), container.parse().unwrap());
        let mapping = Mapping::new(6, host, container);
        assert_eq!(map_of(&mapping).name, map);
        assert_eq!(element(&mapping), (key.clone(), data.clone()));
        let read = super::mapping(&map_of(&mapping), &ruleset::Element { key, data, ..Default::default() });
        assert_eq!(read, Some(mapping));
    }
    let six = Mapping::new(17, "[::]:9".parse().unwrap(), "[fd00::2]:9".parse().unwrap());
    assert_eq!((map_of(&six).name, element(&six).0.len(), element(&six).1.len()), ("any6", 8, 20));
}

#[test]
fn a_table_that_was_taken_away_is_made_all_the_same() {
    let alone = std::thread::spawn(|| {
        if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_err() || !nftables::is_there() {
            return crate::skip::skip("there is no network of its own with nf_tables").unwrap_or_default();
        }
        let state = |fingerprint: &str| State { fingerprint: fingerprint.into(), ..State::default() };
        for name in ["first", "second"] {
            replace("boat", &state(name), true).unwrap();
            assert_eq!(loaded("boat").unwrap().as_deref(), Some(name));
            assert!(is_whole("boat", &state(name)).unwrap());
        }
        clear("boat").unwrap();
        replace("boat", &state("fourth"), false).unwrap();
        assert!(is_whole("boat", &state("fourth")).unwrap());
    });
    alone.join().unwrap();
}

#[test]
fn a_port_comes_and_goes_with_the_rules_that_are_for_it_alone() {
    let alone = std::thread::spawn(|| {
        if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_err() || !nftables::is_there() {
            return crate::skip::skip("there is no network of its own with nf_tables").unwrap_or_default();
        }
        let container = "172.18.0.2:80".parse().unwrap();
        let some = vec!["10.0.0.0/8".parse().unwrap(), "10.9.0.0/16".parse().unwrap()];
        let routed = Mapping::routed(6, container);
        let host = "0.0.0.0:80".parse().unwrap();
        let plain = Mapping::new(6, host, container);
        let of = |number: u16| Mapping { host: SocketAddr::new(host.ip(), number), ..plain.clone() };
        let kinds = [
            vec![plain.clone()],
            vec![Mapping { from: Some(some.clone()), ..of(81) }],
            vec![Mapping { by_loopback: true, ..of(82) }],
            vec![routed.clone(), Mapping { from: Some(some.clone()), protocol: 17, ..routed.clone() }],
            vec![Mapping { from: Some(some.clone()), trusted: vec!["lan0".into(), "lan1".into()], ..of(8) }, {
                Mapping { trusted: vec!["lan0".into()], ..of(80 + 800) }
            }],
            vec![of(83), Mapping { protocol: 132, ..routed.clone() }, Mapping { from: Some(some), ..of(84) }],
        ];
        let table = "boat";
        let state = |mappings: &[Mapping]| State { mappings: mappings.to_vec(), ..State::default() };
        replace(table, &state(&kinds[0]), false).unwrap();
        let handles = || {
            let rules = ruleset::rules(INET, table, None).unwrap();
            rules.into_iter().map(|rule| rule.handle).collect::<Vec<_>>()
        };
        let others = handles();
        for some in &kinds[1..] {
            add(table, some).unwrap();
            let both = [kinds[0].clone(), some.clone()].concat();
            assert!(is_whole(table, &state(&both)).unwrap(), "{some:?}");
            let mut read = read(table).unwrap().unwrap();
            read.retain(|mapping| *mapping != plain);
            // What is by a program is not read back.
            let told = |mapping: &Mapping| Mapping { by_loopback: false, ..mapping.clone() };
            assert_eq!(read.len(), some.len());
            assert!(some.iter().all(|mapping| read.contains(&told(mapping))), "{read:?}");
            remove(table, some).unwrap();
            assert_eq!(handles(), others, "{some:?}");
            assert!(is_whole(table, &state(&kinds[0])).unwrap());
        }
        // What is gone is gone, also where another one is still there, or only its rule is.
        add(table, &kinds[5]).unwrap();
        remove(table, &kinds[5][..1]).unwrap();
        remove(table, &[kinds[5].clone(), kinds[1].clone()].concat()).unwrap();
        assert_eq!(handles(), others);
        remove("no-table", &kinds[5]).unwrap();
        assert!(add("no-table", &kinds[3]).is_err());
    });
    alone.join().unwrap();
}

#[test]
fn a_guard_tells_whom_it_lets_in() {
    let mapping = Mapping {
        from: Some(vec!["10.0.0.0/8".parse().unwrap(), "192.168.1.7/32".parse().unwrap()]),
        ..Mapping::new(6, "0.0.0.0:80".parse().unwrap(), "172.17.0.2:80".parse().unwrap())
    };
    let told = |mapping: &Mapping| let_in(&ruleset::Rule { expressions: guard(mapping).told(), ..Default::default() });
    assert_eq!(Some(told(&mapping)), mapping.from);
    // Nobody is of another family.
    let only_six = Mapping { from: Some(vec!["fd00::/8".parse().unwrap()]), ..mapping };
    assert_eq!(told(&only_six), []);
}

#[test]
fn a_rule_that_opens_says_what_and_to_whom() {
    let container = "172.18.0.2:80".parse().unwrap();
    let everybody = Mapping::routed(6, container);
    let some =
        Mapping { from: Some(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]), ..everybody.clone() };
    let nobody = Mapping { from: Some(vec!["fd00::/8".parse().unwrap()]), ..everybody.clone() };
    assert_eq!([&everybody, &some, &nobody].map(|mapping| openings(mapping).len()), [1, 1, 0]);
    for (comment, source) in
        [("opens tcp 172.18.0.2:80", None), ("opens tcp 172.18.0.2:80 10.0.0.0/8", Some("10.0.0.0/8"))]
    {
        let source = source.map(|text| text.parse().unwrap());
        assert_eq!(opened(comment), Some((everybody.clone(), source)), "{comment}");
    }
    assert_eq!((opened("guards tcp 0.0.0.0:80"), opened("opens tcp here")), (None, None));
    assert!(elements(&[everybody], ANY).is_empty(), "no port of the host leads there");
}

#[test]
fn what_is_ours_alone_is_closed_to_others() {
    let bridge = Bridge {
        link: "dhow0".into(),
        subnets: vec!["172.17.0.0/16".parse().unwrap()],
        masquerade: true,
        ..Bridge::default()
    };
    let mut state = State { bridges: vec![bridge.clone()], ..State::default() };
    let count = |state: &State, chain: &str| rules(state).iter().filter(|(of, _)| *of == chain).count();
    assert_eq!((count(&state, "input"), count(&state, "postrouting"), count(&state, "forward")), (1, 3, 4));
    state.forwards_for_us = true;
    let last = rules(&state).pop().unwrap();
    assert_eq!(last, ("forward", Rule::new().decide(DROP)));
    // Answers to those who go out under their own address come to it.
    state.bridges = vec![Bridge { masquerade: false, ..bridge.clone() }];
    assert_eq!((count(&state, "input"), count(&state, "postrouting")), (0, 2));
    state.bridges = vec![Bridge { internal: true, ..bridge.clone() }];
    assert_eq!((count(&state, "input"), count(&state, "postrouting")), (1, 2));
    // Of a routed family nothing is masqueraded or closed, and ICMP is let in; all of an unprotected one is.
    let only_four = Families { four: true, six: false };
    for open in [Bridge { routed: only_four, ..bridge.clone() }, Bridge { unprotected: only_four, ..bridge.clone() }] {
        let masqueraded = usize::from(open.routed == Families::default());
        state.bridges = vec![bridge.clone()];
        let before = count(&state, "forward");
        state.bridges = vec![open];
        assert_eq!((count(&state, "input"), count(&state, "postrouting")), (0, 2 + masqueraded));
        assert_eq!(count(&state, "forward"), before + 1);
    }
    state.bridges = vec![bridge.clone()];
    let before = count(&state, "forward");
    state.bridges = vec![Bridge { apart: true, ..bridge.clone() }];
    assert_eq!(count(&state, "forward"), before + 2);
    // Of others on a shared bridge nothing is said: each rule about it names the range of ours.
    let range: Subnet = "172.17.9.0/24".parse().unwrap();
    state.bridges = vec![Bridge { shared: Some(vec![range]), ..bridge }];
    let about = |state: &State| {
        let link = Rule::new().comes_by(Name::Is("dhow0")).told().pop();
        let not = Rule::new().comes_by(Name::IsNot("dhow0")).told().pop();
        let all = rules(state).into_iter().map(|(_, rule)| rule.told());
        all.filter(|rule| rule.iter().any(|it| Some(it) == link.as_ref() || Some(it) == not.as_ref())).collect()
    };
    let rules: Vec<Vec<ruleset::Expression>> = about(&state);
    let (to, from) = (Rule::new().to(range).told(), Rule::new().from(range).told());
    let holds = |rule: &[ruleset::Expression], part: &[ruleset::Expression]| {
        rule.windows(part.len()).any(|window| window == part)
    };
    assert_eq!(rules.len(), 5, "{rules:?}");
    assert!(rules.iter().all(|rule| holds(rule, &to) || holds(rule, &from)), "{rules:?}");
    assert_eq!(count(&state, "input"), 0);
}
