//! What one thread writes and another reads. An error of the writer is the reader's, so that what ends early is never
//! taken for whole.

use anyhow::{Context, Result};
use std::io::{PipeReader, Read, Write};
use std::thread::JoinHandle;

/// The end that is read.
pub struct Piped {
    pipe: PipeReader,
    thread: Option<JoinHandle<Result<()>>>,
}

/// Runs `produce` in a thread of its own.
pub fn piped(produce: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static) -> Result<Piped> {
    let (pipe, writer) = std::io::pipe().context("making a pipe")?;
    let thread = std::thread::spawn(move || {
        let mut writer = std::io::BufWriter::with_capacity(64 * 1024, writer);
        produce(&mut writer)?;
        Ok(writer.flush()?)
    });
    Ok(Piped { pipe, thread: Some(thread) })
}

impl Read for Piped {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.pipe.read(buffer)?;
        if n == 0
            && !buffer.is_empty()
            && let Some(thread) = self.thread.take()
        {
            let ended = thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread that writes panicked")));
            ended.map_err(|error| std::io::Error::other(format!("{error:#}")))?;
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_no_end() {
        let mut read = Vec::new();
        let whole = piped(|sink| Ok(sink.write_all(&[7; 300_000])?)).unwrap().read_to_end(&mut read);
        assert_eq!((whole.unwrap(), read.len()), (300_000, 300_000));
        let mut broken = piped(|sink| {
            sink.write_all(b"some")?;
            anyhow::bail!("it broke")
        })
        .unwrap();
        assert_eq!(broken.read_to_end(&mut read).unwrap_err().to_string(), "it broke");
    }
}
