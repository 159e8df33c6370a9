//! Runs tests in a separate process: what they measure or set is global to a process.

use std::collections::HashMap;
use std::process::Stdio;

use ringcentral_sandbox::Sandbox;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::common::soon;

/// The role of a child process; see [`Worker::start`].
const ROLE: &str = "RC_TEST_ROLE";

/// Resident memory of this process in bytes; `None` if the system does not report it in `/proc`.
pub(crate) fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Runs a test again in a separate process, with its own memory and loggers; true in the parent process, which has
/// nothing left to do.
///
/// `module` is the test's `module_path!()`.
pub(crate) async fn ran_alone(module: &str, test: &str) -> bool {
    const ALONE: &str = "alone";
    if role().as_deref() == Some(ALONE) {
        return false;
    }
    let child = this_binary(&test_name(module, test)).env(ROLE, ALONE).kill_on_drop(true).output();
    let output = child.await.unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    // An unknown test name would run none.
    assert!(output.status.success() && text.contains("test result: ok. 1 passed"), "{text}\n{errors}");
    true
}

/// The test runner's name of a test: its path without the name of the binary.
fn test_name(module: &str, test: &str) -> String {
    let (_, module) = module.split_once("::").expect("tests lie in modules of their binary");
    format!("{module}::{test}")
}

/// This binary, with one test to run.
fn this_binary(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command
}

/// The role of this process, if it was started as a child.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// A child of this test binary: a separate process, so that neither the sandbox nor other tests are in its memory. It
/// communicates by lines.
pub(crate) struct Worker {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Runs the test `test` of the module `module` with `role`, which connects to
    /// `sandbox`.
    pub(crate) fn start(module: &str, test: &str, role: &str, sandbox: &Sandbox) -> Self {
        let mut child = this_binary(&test_name(module, test))
            .env(ROLE, role)
            .env("RC_SERVER_URL", sandbox.base_url())
            .env("RC_PUBNUB_ORIGIN", sandbox.pubnub_origin())
            .env("RC_APP_CLIENT_ID", sandbox.client_id())
            .env("RC_APP_CLIENT_SECRET", sandbox.client_secret().expose())
            .env("RC_USER_JWT", sandbox.jwt().expose())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, stdin, lines }
    }

    /// Waits for the child's line `name`, and reads the figures on it.
    pub(crate) async fn wait(&mut self, name: &str) -> HashMap<String, u64> {
        loop {
            let line = soon(self.lines.next_line()).await.unwrap().expect("the child ended early");
            // The test runner writes to the same output, without a line break.
            let Some((_, line)) = line.split_once("@@") else { continue };
            let mut words = line.split(' ');
            assert_eq!(words.next(), Some(name), "{line}");
            return words
                .filter_map(|word| word.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.parse().unwrap()))
                .collect();
        }
    }

    /// Lets the child continue.
    pub(crate) async fn go(&mut self) {
        self.stdin.write_all(b"go\n").await.unwrap();
    }
}

/// The child's side of [`Worker::wait`].
pub(crate) fn report(name: &str, figures: &[(&str, u64)]) {
    let figures: String = figures.iter().map(|(key, value)| format!(" {key}={value}")).collect();
    println!("@@{name}{figures}");
}

/// The child's side of [`Worker::go`].
pub(crate) async fn wait_for_go() {
    let mut line = String::new();
    soon(BufReader::new(tokio::io::stdin()).read_line(&mut line)).await.unwrap();
    assert_eq!(line, "go\n");
}
