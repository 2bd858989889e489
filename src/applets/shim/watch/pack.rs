//! What the log has rotated away is compressed, one file after the other.

use super::Watch;
use crate::applets::shim::Handover;
use crate::applets::shim::pack::Packer;

impl Watch {
    pub(super) fn pack(&mut self, handover: &Handover) {
        if self.packer.is_some() || self.status.is_some() {
            return;
        }
        let Some(log) = &mut self.log else { return };
        let Some(job) = log.next_job() else { return };
        match Packer::start(&handover.base, job) {
            Ok(packer) => self.packer = Some(packer),
            Err(job) => log.packed(job, false, false),
        }
    }

    pub(super) fn packed(&mut self) {
        let (Some(packer), Some(log)) = (self.packer.take(), &mut self.log) else { return };
        let (job, is_done) = packer.ended();
        let is_read = self.clients.iter().flatten().any(|client| client.behind.is_some());
        log.packed(job, is_done, is_read);
    }

    /// Whatever is left is compressed when nobody waits any more.
    pub(super) fn end_packer(&mut self) {
        if let (Some(packer), Some(log)) = (self.packer.take(), &self.log) {
            packer.end(log.path());
        }
    }
}
