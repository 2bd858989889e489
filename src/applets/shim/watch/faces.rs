//! What comes after this face: itself, without what the launching one left in memory, and the one that reaps.

use super::Watch;
use crate::applets::shim::log::Log;
use crate::applets::shim::{DESCRIPTORS, Handover, clients, exec_face, grow_up, kept};
use crate::sys::process;
use std::os::fd::{AsFd, AsRawFd};

impl Watch {
    /// Whether nothing is under way that another process image could not go on with.
    pub(super) fn is_quiet(&self) -> bool {
        self.probe.is_none()
            && self.forwarder.is_none()
            && self.packer.is_none()
            && self.unresolved.is_none()
            && !self.is_ending()
            && !self.stopped
            && !self.again
            && self.typed_from == self.typed_to
            && self.streams.iter().all(|stream| stream.length == 0)
            && self
                .clients
                .iter()
                .flatten()
                .all(|client| client.owed == 0 && client.matched == 0 && client.behind.is_none())
    }

    /// The container lives on: what the launching face left in memory is shed by executing ourselves again.
    /// Where that cannot be done now, it goes on as it is.
    pub(super) fn settle(&mut self, handover: &Handover) {
        let Ok(lines) = self.log.as_ref().map(Log::hand_over).transpose() else { return };
        let lines = lines.flatten();
        let open = |name: &str| match name {
            "in" => self.stdin.is_some(),
            "out" => self.streams[0].source.is_some(),
            "err" => self.streams[1].source.is_some(),
            _ => true,
        };
        let kept = handover.words.iter().filter(|word| word.split_once('=').is_some_and(|(name, _)| open(name)));
        let mut words: Vec<String> = kept.cloned().collect();
        // A log that was rotated is another file by now.
        if let Some(log) = &self.log {
            words.retain(|word| !word.starts_with("logfd="));
            words.push(format!("logfd={}", log.file().as_raw_fd()));
            words.extend(lines.as_ref().map(|lines| format!("lines={}", lines.as_raw_fd())));
            words.push(format!("unwritten={}", log.lost()));
        }
        for word in &words {
            if let Some((name, number)) = word.split_once('=')
                && DESCRIPTORS.contains(&name)
                && let Ok(number) = number.split(',').next().unwrap_or_default().parse()
            {
                let _ = process::set_inherit(process::unbound(number), true);
            }
        }
        words.retain(|word| !["health=", "oom=", "resolver="].iter().any(|name| word.starts_with(name)));
        if let Some(resolver) = &handover.kept.resolver {
            let _ = process::set_inherit(resolver.as_fd(), true);
            words.push(format!("{}={}", kept::RESOLVER, resolver.as_raw_fd()));
        }
        words.extend(self.oom.as_ref().map(|oom| format!("oom={}", oom.told())));
        words.extend(self.timing.map(|timing| format!("health={}", timing.hand_over())));
        words.push(format!("uptime={}", self.started.elapsed().as_millis()));
        let _ = clients::hand_over(self.clients.iter().flatten(), &mut words);
        grow_up();
        exec_face("watch", &handover.base, words)
    }

    /// Becomes the reaping face: the clients that wait go along.
    pub(super) fn leave(&mut self, handover: &Handover) -> ! {
        self.tell_of_oom(handover);
        self.end_packer();
        self.leave_behind();
        let mut words = vec![
            format!("status={}", self.status.unwrap_or(255)),
            format!("stopped={}", self.stopped as u8),
            format!("again={}", self.again as u8),
            format!("uptime={}", self.started.elapsed().as_millis()),
            format!("unhealthy={}", self.unhealthy as u8),
            format!("pause={}", handover.pause.as_millis()),
        ];
        if let Some(log) = &self.log
            && log.lost() > 0
        {
            words.push(format!("lost={}", log.lost()));
        }
        // Attached ones too: their stream ends when the end is on record, so that whoever asks then is told it.
        let _ = clients::hand_over(self.clients.iter().flatten(), &mut words);
        let _ = handover.kept.hand_over(&mut words);
        exec_face("reap", &handover.base, words)
    }
}
