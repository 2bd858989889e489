//! SIGHUP: the configuration is read again, by dockerd's rules: what clients are answered by changes at once, where to
//! listen and to keep things does not, and what is wrong changes nothing.

use super::{Daemon, asked};
use crate::engine::{Engine, Settings, create, events, system};
use crate::log;
use anyhow::Result;
use std::path::Path;

/// The engine by the configuration as it is now.
pub fn engine(flags: &Daemon, config: Option<&Path>, before: &Engine) -> Result<Engine> {
    let mut settings = settings(flags, config)?;
    let level = asked::level(flags, &settings)?;
    let kept = keep(&mut settings, &before.settings);
    if !kept.is_empty() {
        log::warning!("a reload does not change {}: that comes with the next start", kept.join(", "));
    }
    log::set(level);
    let engine = Engine { store: before.store.clone(), settings };
    tell(&engine)?;
    Ok(engine)
}

/// The configuration with what the flags add to it.
pub fn settings(flags: &Daemon, config: Option<&Path>) -> Result<Settings> {
    let mut settings = Settings::load(config)?;
    asked::refuse_both(flags, &settings)?;
    settings.debug |= flags.debug;
    if flags.selinux_enabled {
        settings.selinux_enabled = Some(true);
    }
    if let Some(user) = &flags.userns_remap {
        settings.userns_remap.clone_from(user);
    }
    if !flags.cdi_spec_dir.is_empty() {
        settings.cdi_spec_dirs = Some(flags.cdi_spec_dir.clone());
    }
    super::networks::apply(flags, &mut settings)?;
    super::dockers::apply(flags, &mut settings)?;
    settings.check()?;
    Ok(settings)
}

/// Puts back what a daemon that runs cannot change, and names it where it would have changed.
fn keep(new: &mut Settings, old: &Settings) -> Vec<&'static str> {
    let mut kept = Vec::new();
    macro_rules! keep {
        ($($name:literal $field:ident),*) => {$(
            if new.$field != old.$field {
                new.$field.clone_from(&old.$field);
                kept.push($name);
            }
        )*};
    }
    keep!(
        "data-root" data_root, "exec-root" exec_root, "hosts" hosts, "group" group, "pidfile" pidfile, "tls" tls,
        "tlsverify" tlsverify, "tlscacert" tlscacert, "tlscert" tlscert, "tlskey" tlskey,
        "userns-remap" userns_remap, "selinux-enabled" selinux_enabled
    );
    kept
}

/// The event, with the names that dockerd gives to what is told.
fn tell(engine: &Engine) -> Result<()> {
    let (store, settings) = (&engine.store, &engine.settings);
    let list = |items: &[String]| serde_json::to_string(items).unwrap_or_default();
    let attributes = [
        ("name", system::host_name()),
        ("debug", settings.debug.to_string()),
        ("default-runtime", create::RUNTIMES[0].to_owned()),
        ("default-shm-size", settings.shm_size()?.to_string()),
        ("insecure-registries", list(&settings.insecure_registries)),
        ("labels", list(&settings.labels)),
        ("live-restore", "true".to_owned()),
        ("max-concurrent-downloads", settings.max_concurrent_downloads.to_string()),
        ("max-concurrent-uploads", settings.max_concurrent_uploads.to_string()),
        ("max-download-attempts", settings.max_download_attempts.to_string()),
        ("registry-mirrors", list(&settings.registry_mirrors)),
        ("shutdown-timeout", settings.shutdown_timeout.to_string()),
    ];
    let attributes = attributes.each_ref().map(|(key, value)| (*key, value.as_str()));
    events::other(store, "daemon", "reload", &system::id(store), &attributes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reload_cannot_change_stays() {
        let old = Settings { hosts: vec!["unix:///a".into()], ..Settings::default() };
        let mut new = Settings { tls: Some(true), shutdown_timeout: 3, ..Settings::default() };
        assert_eq!(keep(&mut new, &old), ["hosts", "tls"]);
        assert_eq!(new, Settings { shutdown_timeout: 3, ..old.clone() });
        assert_eq!(keep(&mut new, &old), [""; 0]);
    }
}
