//! `RUN --device=NAME,required`: a device that a command is given.

use super::mount::fields;
use crate::api::units::parse_bool;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// A device, `vendor.com/class=name`; the first one of a kind, `vendor.com/class`, or all, `vendor.com/class=*`; or
    /// those whose annotation has this class.
    pub name: String,
    /// Where it is not there, that is an error.
    pub required: bool,
}

impl Device {
    /// As BuildKit reads it, with its words.
    pub fn parse(text: &str) -> Result<Device, String> {
        let mut device = Device::default();
        for field in fields(text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
                None => (field.to_ascii_lowercase(), None),
            };
            match (key.as_str(), value) {
                ("required", None) => device.required = true,
                ("name", Some(_)) if !device.name.is_empty() => {
                    return Err(format!("device name already set to {}", device.name));
                }
                ("name", Some(value)) => device.name = value.to_owned(),
                ("required", Some(value)) => {
                    device.required = parse_bool(value).ok_or_else(|| format!("invalid value for {key}: {value}"))?;
                }
                _ if device.name.is_empty() => device.name = field,
                (_, None) => return Err(format!("invalid field '{field}' must be a key=value pair")),
                (_, Some(_)) => return Err(format!("unexpected key '{key}' in '{field}'")),
            }
        }
        Ok(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_as_buildkit_reads_them() {
        for (text, expected) in [
            ("a.b/c=d", Ok(("a.b/c=d", false))),
            ("a.b/c", Ok(("a.b/c", false))),
            ("a.b/c=*,required", Ok(("a.b/c=*", true))),
            ("Class1,required=false", Ok(("Class1", false))),
            ("name=a.b/c=d,required=1", Ok(("a.b/c=d", true))),
            ("required,name=x", Ok(("x", true))),
            ("\"a.b/c=d\"", Ok(("a.b/c=d", false))),
            ("x,name=y", Err("device name already set to x")),
            ("x,required=perhaps", Err("invalid value for required: perhaps")),
            ("x,y", Err("invalid field 'y' must be a key=value pair")),
            ("x,y=z", Err("unexpected key 'y' in 'y=z'")),
        ] {
            let read = Device::parse(text).map(|device| (device.name, device.required));
            let expected = expected.map(|(name, required)| (name.to_owned(), required)).map_err(str::to_owned);
            assert_eq!(read, expected, "{text}");
        }
    }
}
