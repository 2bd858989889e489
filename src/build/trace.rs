//! What a build tells as BuildKit's clients know it: vertexes, what becomes of them, and what they say.

use super::report::Report;
use crate::api::base64;
use crate::api::errno;
use crate::api::time::Time;
use crate::api::types::{ProgressLine, SolveStatus, Vertex, VertexLog, VertexStatus};
use crate::oci::Digest;
use crate::order::Map;
use anyhow::Result;

/// The step that a stage is at.
#[derive(Clone, Default)]
pub struct Trace {
    vertex: Vertex,
    /// When parts of it began.
    parts: Map<String, String>,
}

fn now() -> String {
    Time::now().to_string()
}

/// A message of it.
pub fn line(status: &SolveStatus) -> ProgressLine {
    ProgressLine { id: SolveStatus::ID.to_owned(), aux: serde_json::to_value(status).ok(), ..ProgressLine::default() }
}

/// Something that is done as soon as it is told, with its parts.
pub fn done(name: &str, parts: &[String]) -> SolveStatus {
    let (digest, now) = (Digest::of(name.as_bytes()).to_string(), now());
    let part = |id: &String| VertexStatus {
        id: id.clone(),
        vertex: digest.clone(),
        timestamp: now.clone(),
        started: Some(now.clone()),
        completed: Some(now.clone()),
        ..VertexStatus::default()
    };
    let vertex = Vertex {
        digest: digest.clone(),
        name: name.to_owned(),
        started: Some(now.clone()),
        completed: Some(now.clone()),
        ..Vertex::default()
    };
    SolveStatus { vertexes: vec![vertex], statuses: parts.iter().map(part).collect(), ..SolveStatus::default() }
}

impl Trace {
    fn changed(&self) -> SolveStatus {
        SolveStatus { vertexes: vec![self.vertex.clone()], ..SolveStatus::default() }
    }

    pub fn is_open(&self) -> bool {
        !self.vertex.digest.is_empty() && self.vertex.completed.is_none()
    }

    /// A step begins, which goes on from the one before.
    pub fn begin(&mut self, number: usize, name: String) -> SolveStatus {
        let before = std::mem::take(&mut self.vertex).digest;
        self.parts.clear();
        self.vertex = Vertex {
            digest: Digest::of(format!("{number} {name}").as_bytes()).to_string(),
            inputs: Some(before).filter(|before| !before.is_empty()).into_iter().collect(),
            name,
            started: Some(now()),
            ..Vertex::default()
        };
        self.changed()
    }

    /// It ends: well, or for this reason.
    pub fn end(&mut self, cached: bool, error: &str) -> SolveStatus {
        (self.vertex.completed, self.vertex.cached, self.vertex.error) = (Some(now()), cached, error.to_owned());
        self.changed()
    }

    pub fn said(&self, stream: u8, bytes: &[u8]) -> SolveStatus {
        let data = base64::encode(bytes);
        let log = VertexLog { vertex: self.vertex.digest.clone(), stream, data, timestamp: now() };
        SolveStatus { logs: vec![log], ..SolveStatus::default() }
    }

    /// What a pull or a push tells.
    pub fn moving(&mut self, line: &ProgressLine) -> SolveStatus {
        let id = if line.id.is_empty() { &line.status } else { &line.id };
        let now = now();
        let started = self.parts.entry(id.clone()).or_insert_with(|| now.clone()).clone();
        let counts = line.progress_detail.unwrap_or_default();
        let ended = line.id.is_empty()
            || matches!(line.status.as_str(), "Pull complete" | "Already exists" | "Pushed" | "Layer already exists");
        let name = if line.id.is_empty() { line.status.clone() } else { format!("{id} {}", line.status) };
        let status = VertexStatus {
            id: id.clone(),
            vertex: self.vertex.digest.clone(),
            name,
            total: counts.total,
            current: counts.current,
            timestamp: now.clone(),
            started: Some(started),
            completed: ended.then_some(now),
        };
        SolveStatus { statuses: vec![status], ..SolveStatus::default() }
    }
}

impl Report {
    /// The stage has failed: so has the step that it is at, where that was not told.
    pub fn broken(&mut self, why: &str) -> Result<()> {
        match self.is_open() {
            true => self.failed(&errno::spelt(why)),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::ProgressDetail;

    #[test]
    fn a_step_is_told_as_buildkit_tells_it() {
        let mut trace = Trace::default();
        assert!(!trace.is_open());
        let first = trace.begin(1, "[1/2] FROM x".to_owned()).vertexes.remove(0);
        assert!(first.digest.starts_with("sha256:") && first.inputs.is_empty() && trace.is_open());
        let part = trace.moving(&ProgressLine::layer("abc", "Downloading", ProgressDetail { current: 1, total: 2 }));
        let part = serde_json::to_value(part).unwrap();
        assert_eq!(part["statuses"][0]["name"], "abc Downloading");
        assert_eq!((&part["statuses"][0]["current"], part.get("vertexes")), (&serde_json::json!(1), None));
        let ended = trace.moving(&ProgressLine::layer("abc", "Pull complete", ProgressDetail::default()));
        assert!(ended.statuses[0].completed.is_some());
        assert!(trace.end(true, "").vertexes[0].cached);
        let second = trace.begin(2, "[2/2] RUN y".to_owned()).vertexes.remove(0);
        assert_eq!(second.inputs, [first.digest]);
        let said = serde_json::to_value(trace.said(2, b"hi\n")).unwrap();
        assert_eq!((&said["logs"][0]["data"], &said["logs"][0]["stream"]), (&"aGkK".into(), &2.into()));
        let last = trace.end(false, "exit code: 1").vertexes.remove(0);
        assert_eq!((last.error.as_str(), last.completed.is_some()), ("exit code: 1", true));
    }
}
