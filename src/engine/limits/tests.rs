use super::*;
use crate::api::types::WeightDevice;

fn everything() -> Supports {
    Supports {
        mounted: true,
        memory: true,
        swap: true,
        cpu: true,
        cpuset: true,
        io: true,
        pids: true,
        weighs: true,
        controllers: "cpuset cpu io memory hugetlb pids".into(),
        cpus: "0-1".into(),
        mems: "0".into(),
        processors: 2,
    }
}

fn host(json: &str) -> HostConfig {
    serde_json::from_str(json).unwrap()
}

#[test]
fn what_holds_is_kept() {
    let supports = everything();
    for (body, expected) in [
        (r#"{"Memory":8388608}"#, r#"{"Memory":8388608,"MemorySwap":16777216}"#),
        (r#"{"Memory":8388608,"MemorySwap":-1}"#, r#"{"Memory":8388608,"MemorySwap":-1}"#),
        (r#"{"NanoCpus":1500000000,"CpusetCpus":"0,1"}"#, r#"{"NanoCpus":1500000000,"CpusetCpus":"0,1"}"#),
        (r#"{"PidsLimit":-1,"CpuShares":2}"#, r#"{"PidsLimit":-1,"CpuShares":2}"#),
    ] {
        let mut asked = host(body);
        assert_eq!(check(&mut asked, &supports, false).unwrap(), Vec::<String>::new(), "{body}");
        assert_eq!(asked, host(expected), "{body}");
    }
}

#[test]
fn a_request_without_limits() {
    let nothing = r#"{"Memory":0,"PidsLimit":0,"MemorySwappiness":-1,"OomKillDisable":false,"BlkioDeviceReadBps":[],
        "CpusetCpus":"","BlkioWeightDevice":null}"#;
    assert!(!any(&host(nothing)) && !any(&HostConfig::default()));
    for body in [
        r#"{"Memory":-1}"#,
        r#"{"PidsLimit":-1}"#,
        r#"{"MemorySwappiness":0}"#,
        r#"{"OomKillDisable":true}"#,
        r#"{"CpusetMems":"0"}"#,
        r#"{"BlkioDeviceReadBps":[{"Path":"/dev/x","Rate":1}]}"#,
        r#"{"BlkioWeightDevice":[{"Path":"/dev/x","Weight":10}]}"#,
        r#"{"IOMaximumBandwidth":2}"#,
        r#"{"CgroupParent":"/x"}"#,
    ] {
        assert!(any(&host(body)), "{body}");
    }
}

#[test]
fn what_does_not_hold_is_dropped_with_a_warning() {
    let none = Supports { processors: 2, ..Supports::default() };
    let mut asked = host(
        r#"{"Memory":8388608,"MemoryReservation":7340032,"KernelMemory":9,"CpuShares":5,"CpuQuota":5000,
            "CpusetCpus":"0","BlkioWeight":20,"BlkioDeviceReadBps":[{"Path":"/dev/x","Rate":1}],"PidsLimit":7,
            "CgroupParent":"/x"}"#,
    );
    let warnings = check(&mut asked, &none, false).unwrap();
    let expected = [
        "memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
        "memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
        "kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
        "CPU shares or the cgroup is not mounted. Shares discarded.",
        "CPU CFS scheduler. CPU period/quota discarded.",
        "cpuset or the cgroup is not mounted. Cpuset discarded.",
        "Block I/O weight or the cgroup is not mounted. Weight discarded.",
        "BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.",
        "PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
        "cgroup parents or the cgroup is not mounted. Cgroup parent discarded.",
    ];
    assert_eq!(warnings, expected.map(|what| format!("Your kernel does not support {what}")));
    assert_eq!(asked, host(r#"{"MemorySwap":-1,"BlkioDeviceReadBps":[]}"#));
    let mut without_swap = host(r#"{"Memory":8388608}"#);
    let warnings = check(&mut without_swap, &Supports { swap: false, ..everything() }, false).unwrap();
    assert!(warnings[0].ends_with("Memory limited without swap.") && without_swap.memory_swap == -1);
}

#[test]
fn what_is_refused() {
    for (body, words) in [
        (r#"{"Memory":1000}"#, "Minimum memory limit allowed is 6MB"),
        (r#"{"Memory":-5}"#, "Minimum memory limit allowed is 6MB"),
        (r#"{"Memory":8388608,"MemorySwap":7000000}"#, "Minimum memoryswap limit should be larger"),
        (r#"{"MemorySwap":7000000}"#, "You should always set the Memory limit"),
        (r#"{"MemoryReservation":5}"#, "Minimum memory reservation allowed is 6MB"),
        (r#"{"Memory":8388608,"MemoryReservation":9000000}"#, "can not be less than memory reservation"),
        (r#"{"MemorySwappiness":50}"#, "memory swappiness is not supported"),
        (r#"{"MemorySwappiness":101}"#, "valid memory swappiness range is 0-100"),
        (r#"{"OomKillDisable":true}"#, "the OOM killer cannot be disabled"),
        (r#"{"NanoCpus":1,"CpuQuota":5000}"#, "Nano CPUs and CPU Quota cannot both be set"),
        (r#"{"NanoCpus":3000000000}"#, "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
        (r#"{"CpuShares":-1}"#, "invalid CPU shares (-1)"),
        (r#"{"CpuPeriod":5}"#, "CPU cfs period can not be less than 1ms"),
        (r#"{"CpuQuota":5}"#, "CPU cfs quota can not be less than 1ms"),
        (r#"{"CpuRealtimeRuntime":5}"#, "does not support CPU real-time scheduler"),
        (r#"{"CpusetCpus":"0-7"}"#, "Requested CPUs are not available - requested 0-7, available: 0-1"),
        (r#"{"CpusetCpus":"1-0"}"#, "Invalid value 1-0 for cpuset cpus"),
        (r#"{"CpusetMems":"1"}"#, "Requested memory nodes are not available - requested 1, available: 0"),
        (r#"{"BlkioWeight":5}"#, "Range of blkio weight is from 10 to 1000"),
        (r#"{"IOMaximumIOps":5}"#, "Invalid QoS settings"),
    ] {
        let error = check(&mut host(body), &everything(), false).unwrap_err();
        assert!(error.to_string().contains(words), "{body}: {error}");
        assert_eq!(error.downcast_ref::<Refusal>().map(Refusal::status), Some(400));
    }
    let error = check(&mut host(r#"{"NanoCpus":1}"#), &Supports::default(), false).unwrap_err();
    assert!(error.to_string().starts_with("NanoCPUs can not be set"), "{error}");
}

#[test]
fn limits_in_the_specification() {
    let number = |path: &str| if path == "/dev/a" { Ok((8, 16)) } else { bail!("no {path}") };
    let made = |body: &str| resources(&host(body), &number).unwrap();
    assert_eq!(made("{}"), Resources::default());
    assert_eq!(made(r#"{"MemorySwap":-1}"#), Resources::default());
    let cpu = |cpu| Resources { cpu: Some(cpu), ..Resources::default() };
    let period = Some(PERIOD);
    assert_eq!(made(r#"{"NanoCpus":1500000000}"#), cpu(Cpu { quota: Some(150_000), period, ..Cpu::default() }));
    assert_eq!(made(r#"{"NanoCpus":10000000}"#), cpu(Cpu { quota: Some(1000), period, ..Cpu::default() }));
    let memory = Memory { limit: Some(9), swap: Some(-1), reservation: Some(5), ..Memory::default() };
    assert_eq!(
        made(r#"{"Memory":9,"MemorySwap":-1,"MemoryReservation":5}"#),
        Resources { memory: Some(memory), ..Resources::default() }
    );
    assert_eq!(made(r#"{"PidsLimit":-7}"#).pids, Some(Pids { limit: -1 }));
    let io = made(r#"{"BlkioDeviceWriteIOps":[{"Path":"/dev/a","Rate":7}]}"#).block_io.unwrap();
    assert_eq!(io.throttle_write_iops_device, [runtime::ThrottleDevice { major: 8, minor: 16, rate: 7 }]);
    let weight = WeightDevice { path: "/dev/b".into(), weight: 5 };
    let other = HostConfig { blkio_weight_device: Some(vec![weight]), ..HostConfig::default() };
    assert!(resources(&other, &number).is_err());
}

#[test]
fn updates() {
    let merged = |set: &str, asked: &str| {
        let mut set = host(set);
        merge(&mut set, &host(asked)).map(|()| set)
    };
    for (set, asked, expected) in [
        (r#"{"Memory":9,"MemorySwap":18}"#, r#"{"Memory":12}"#, r#"{"Memory":12,"MemorySwap":18}"#),
        (r#"{"Memory":9,"MemorySwap":-1}"#, r#"{"Memory":12,"MemorySwap":-1}"#, r#"{"Memory":12,"MemorySwap":-1}"#),
        ("{}", r#"{"Memory":12,"MemorySwap":12}"#, r#"{"Memory":12,"MemorySwap":12}"#),
        (r#"{"Memory":9,"MemorySwap":18}"#, r#"{"MemorySwap":-1}"#, r#"{"Memory":9,"MemorySwap":-1}"#),
        (r#"{"PidsLimit":9}"#, r#"{"PidsLimit":-1,"CpuShares":7}"#, r#"{"PidsLimit":0,"CpuShares":7}"#),
        (r#"{"PidsLimit":9}"#, r#"{"CpusetCpus":"1"}"#, r#"{"PidsLimit":9,"CpusetCpus":"1"}"#),
    ] {
        assert_eq!(merged(set, asked).unwrap(), host(expected), "{set} {asked}");
    }
    for (set, asked, words) in [
        (r#"{"Memory":9,"MemorySwap":18}"#, r#"{"Memory":20}"#, "update the memoryswap at the same time"),
        (r#"{"Memory":9,"MemorySwap":-1}"#, r#"{"Memory":12}"#, "update the memoryswap at the same time"),
        ("{}", r#"{"Memory":12}"#, "update the memoryswap at the same time"),
        (r#"{"Memory":9,"MemorySwap":18}"#, r#"{"MemorySwap":5}"#, "Minimum memoryswap limit"),
        ("{}", r#"{"MemorySwap":5}"#, "You should always set the Memory limit"),
        (r#"{"NanoCpus":9}"#, r#"{"CpuQuota":5000}"#, "CPU Quota cannot be updated as NanoCPUs"),
        (r#"{"CpuPeriod":9}"#, r#"{"NanoCpus":5}"#, "Nano CPUs cannot be updated as CPU Period"),
    ] {
        let error = merged(set, asked).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn files_that_annotations_name() {
    let asked = |annotations: serde_json::Value| -> HostConfig {
        serde_json::from_value(serde_json::json!({ "Annotations": annotations })).unwrap()
    };
    let mut one = asked(serde_json::json!({"dhow.cgroup.memory.oom.group": "1", "a": "b"}));
    assert!(any(&one) && check(&mut one, &everything(), false).unwrap().is_empty());
    let unified = resources(&one, &|_| bail!("no device")).unwrap().unified;
    assert_eq!(unified, [("memory.oom.group".to_owned(), "1".to_owned())].into());
    let mut none = asked(serde_json::json!({"dhow.cgroup.rdma.max": "1", "a": "b"}));
    assert_eq!(check(&mut none, &everything(), false).unwrap().len(), 1);
    assert_eq!(none.annotations.unwrap().into_keys().collect::<Vec<_>>(), ["a"]);
    for (key, value) in [("cgroup.procs", "1"), ("../memory.max", "1"), ("memory", "1"), ("memory.max", "")] {
        let mut wrong = asked(serde_json::json!({format!("{ANNOTATION}{key}"): value}));
        assert!(check(&mut wrong, &everything(), false).is_err(), "{key}");
    }
}

#[test]
fn weights_need_who_gives_way() {
    let mut asked = host(r#"{"BlkioWeight":500}"#);
    assert!(check(&mut asked, &everything(), false).unwrap().is_empty());
    let none = Supports { weighs: false, ..everything() };
    assert_eq!(check(&mut asked, &none, false).unwrap(), [NO_WEIGHT]);
    assert_eq!(asked.blkio_weight, 500);
    assert!(weighs("254:0 enable=1 ctrl=auto\n", Path::new("/absent")) && !weighs("", Path::new("/absent")));
}

#[test]
fn lists_of_numbers() {
    assert_eq!(numbers("0-2,7"), Some([0, 1, 2, 7].into()));
    assert_eq!(numbers(""), Some(Set::new()));
    for bad in ["x", "1-", "2-1", "0-99999999", ",", "-1"] {
        assert_eq!(numbers(bad), None, "{bad}");
    }
}
