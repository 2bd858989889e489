//! A further process in a running container.

use super::wire;

wire! {
    /// A body of `POST /containers/{id}/exec`.
    pub struct ExecCreate {
        pub user: String,
        pub privileged: bool,
        pub tty: bool,
        /// Rows, columns.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub console_size: Option<[u32; 2]>,
        pub attach_stdin: bool,
        pub attach_stderr: bool,
        pub attach_stdout: bool,
        /// Empty is the default, ctrl-p,ctrl-q.
        pub detach_keys: String,
        pub env: Option<Vec<String>>,
        pub working_dir: String,
        pub cmd: Vec<String>,
    }

    /// The answer to it.
    pub struct ExecCreated {
        pub id: String,
    }

    /// A body of `POST /exec/{id}/start`.
    pub struct ExecStart {
        pub detach: bool,
        pub tty: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub console_size: Option<[u32; 2]>,
    }

    /// The answer of `GET /exec/{id}/json`.
    pub struct ExecInspect {
        #[serde(rename = "ID")]
        pub id: String,
        pub running: bool,
        /// None until it has ended.
        pub exit_code: Option<i32>,
        pub process_config: ExecProcess,
        pub open_stdin: bool,
        pub open_stderr: bool,
        pub open_stdout: bool,
        pub can_remove: bool,
        #[serde(rename = "ContainerID")]
        pub container_id: String,
        pub detach_keys: String,
        pub pid: i32,
    }

    /// What an exec runs. The names of these fields are small in the API.
    pub struct ExecProcess {
        #[serde(rename = "tty")]
        pub tty: bool,
        #[serde(rename = "entrypoint")]
        pub entrypoint: String,
        #[serde(rename = "arguments")]
        pub arguments: Vec<String>,
        #[serde(rename = "privileged")]
        pub privileged: bool,
        #[serde(rename = "user", skip_serializing_if = "String::is_empty")]
        pub user: String,
    }
}
