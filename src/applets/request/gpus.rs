//! `--gpus`, and `--device` where it names a device of the Container Device Interface. Both pure.

use super::values;
use crate::api::types::DeviceRequest;
use crate::oci::cdi;
use crate::order::Map;
use anyhow::Result;

/// What `--device` and `--gpus` ask drivers for; `None` where they ask for nothing. `named` are qualified names.
pub fn requests(gpus: &[String], named: Vec<String>) -> Result<Option<Vec<DeviceRequest>>> {
    let mut requests = Vec::new();
    for value in gpus {
        requests.push(request(value).or_else(|why| super::wrong("--gpus", value, &why))?);
    }
    if !named.is_empty() {
        requests.push(DeviceRequest { driver: "cdi".to_owned(), device_ids: Some(named), ..DeviceRequest::default() });
    }
    Ok(Some(requests).filter(|requests| !requests.is_empty()))
}

/// Whether a `--device` is a name such as `vendor.com/class=name`, and no path.
pub fn is_name(device: &str) -> bool {
    cdi::qualified(device).is_some()
}

/// Reads one `--gpus`. The words are Docker's.
fn request(value: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest { options: Some(Map::new()), ..DeviceRequest::default() };
    let mut seen: Vec<String> = Vec::new();
    let words = |value: &str| value.split(',').map(str::to_owned).collect::<Vec<_>>();
    for field in values::csv(value)? {
        // A count may stand alone.
        let (key, value) = field.split_once('=').unwrap_or(("", &field));
        let name = if key.is_empty() && !field.starts_with('=') { "count" } else { key };
        if seen.iter().any(|known| known == name) {
            return Err(format!("gpu request key '{name}' can be specified only once"));
        }
        match name {
            "count" => request.count = count(value)?,
            "driver" => request.driver = value.to_owned(),
            "device" => request.device_ids = Some(words(value)),
            "capabilities" => {
                let mut set = words(value);
                set.push("gpu".to_owned());
                request.capabilities = Some(vec![set]);
            }
            "options" => request.options = Some(values::pairs(&values::csv(value)?)),
            other => return Err(format!("unexpected key '{other}' in '{field}'")),
        }
        seen.push(name.to_owned());
    }
    if !seen.iter().any(|name| name == "count") && request.device_ids.is_none() {
        request.count = 1;
    }
    request.capabilities.get_or_insert_with(|| vec![vec!["gpu".to_owned()]]);
    Ok(request)
}

fn count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse()
        .map_err(|_| format!("invalid count ({text}): value must be either \"all\" or an integer: invalid syntax"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_as_docker_reads_them() {
        let shown = |value: &str| {
            request(value).map(|it| {
                let ids = it.device_ids.unwrap_or_default().join("+");
                let sets: Vec<String> = it.capabilities.unwrap_or_default().iter().map(|set| set.join("+")).collect();
                format!("{}/{}/{ids}/{}/{:?}", it.driver, it.count, sets.join(","), it.options.unwrap_or_default())
            })
        };
        for (value, expected) in [
            ("all", Ok("/-1//gpu/{}")),
            ("2", Ok("/2//gpu/{}")),
            ("count=3", Ok("/3//gpu/{}")),
            ("device=0", Ok("/0/0/gpu/{}")),
            ("\"device=0,1\"", Ok("/0/0+1/gpu/{}")),
            ("driver=nvidia,\"capabilities=compute,utility\"", Ok("nvidia/1//compute+utility+gpu/{}")),
            ("all,\"options=a=b,c=d\"", Ok("/-1//gpu/{\"a\": \"b\", \"c\": \"d\"}")),
            ("x", Err("invalid count (x): value must be either \"all\" or an integer: invalid syntax")),
            ("all,count=1", Err("gpu request key 'count' can be specified only once")),
            ("driver=a,driver=b", Err("gpu request key 'driver' can be specified only once")),
            ("boat=1", Err("unexpected key 'boat' in 'boat=1'")),
        ] {
            assert_eq!(shown(value), expected.map(str::to_owned).map_err(str::to_owned), "{value}");
        }
        assert_eq!(requests(&[], Vec::new()).unwrap(), None);
        let both = requests(&["all".to_owned()], vec!["a.b/c=d".to_owned()]).unwrap().unwrap();
        assert_eq!((both[0].count, both[1].driver.as_str()), (-1, "cdi"));
        assert!(is_name("a.b/c=d") && !is_name("/dev/a=b") && !is_name("/dev/null"));
    }
}
