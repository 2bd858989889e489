//! Places at which a test may end the process, as a power cut or an impatient person would.
//! They exist in builds with the feature `failpoints` only.

/// Kills this process with SIGKILL when `DHOW_FAIL` names `point`, once it has made the file that `DHOW_FAIL_MARK`
/// names; where that file is there already, the process goes on. Nothing in a release build.
#[cfg(feature = "failpoints")]
pub fn reach(point: &str) {
    if std::env::var_os("DHOW_FAIL").is_none_or(|named| named != point) {
        return;
    }
    if let Some(mark) = std::env::var_os("DHOW_FAIL_MARK")
        && std::fs::File::create_new(mark).is_err()
    {
        return;
    }
    let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
}

/// Whether this kernel shall be taken for one that lacks something: `DHOW_LACKS` names it. Never in a release build.
#[cfg(feature = "failpoints")]
pub fn lacks(what: &str) -> bool {
    std::env::var_os("DHOW_LACKS").is_some_and(|named| named == what)
}

#[cfg(not(feature = "failpoints"))]
pub fn lacks(_what: &str) -> bool {
    false
}

#[cfg(not(feature = "failpoints"))]
pub fn reach(_point: &str) {}
