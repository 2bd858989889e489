//! The zone of this machine.

use std::ffi::CStr;

/// Seconds east of UTC at a time given in seconds since 1970, and the zone's short name, as `TZ` or /etc/localtime
/// say (`localtime_r(3)`). UTC where they say nothing.
pub fn zone(at: i64) -> (i32, String) {
    // SAFETY: tm is integers and one pointer; all zero is a value of it.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right types.
    if unsafe { libc::localtime_r(&(at as _), &mut local) }.is_null() || local.tm_zone.is_null() {
        return (0, "UTC".into());
    }
    // SAFETY: tm_zone is not null and names a string that the C library keeps.
    let name = unsafe { CStr::from_ptr(local.tm_zone) };
    (local.tm_gmtoff as i32, name.to_string_lossy().into_owned())
}
