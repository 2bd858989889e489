//! What an upper directory changes, once more as a layer of its own: packed and unpacked by two threads, with a copy of
//! all files. [`super::seal`] does without the copy, where the upper directory may be had.

use super::diff::{self, Difference};
use super::pack::Packer;
use super::stream;
use super::unpack::{self, Unpacked};
use anyhow::{Context, Result, anyhow};
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

/// Unpacks the differences of `upper` into the empty directory `staging`, as a layer that was pulled.
pub fn repack(upper: &Path, differences: &[Difference], staging: &Path) -> Result<Unpacked> {
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    let mut reader = BufReader::with_capacity(stream::BUFFER, reader);
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || -> Result<()> {
            let mut writer = BufWriter::with_capacity(128 * 1024, writer);
            let mut packer = Packer::new(&mut writer);
            diff::pack(upper, differences, &mut packer)?;
            packer.end()?;
            writer.flush().context("end the layer")
        });
        let unpacked = unpack::unpack(&mut reader, staging);
        drop(reader);
        let packed = packing.join().unwrap_or_else(|_| Err(anyhow!("the thread that packs panicked")));
        // What is cut short by an error of the first is no layer, whatever the second thinks of it.
        match (packed, unpacked) {
            (Ok(()), unpacked) => unpacked,
            (Err(error), Ok(_)) => Err(error),
            (Err(packed), Err(unpacked)) => {
                let broken = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
                Err(if packed.chain().any(|it| it.downcast_ref().is_some_and(broken)) { unpacked } else { packed })
            }
        }
    })
}
