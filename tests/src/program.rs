//! The `rustorium` program as a user has it: a file that is run.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// How long a command that asks one question may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a process is asked whether it has ended.
const POLL: Duration = Duration::from_millis(5);

/// The program's file, which lies beside the tests' folder.
pub fn path() -> anyhow::Result<PathBuf> {
    beside("rustorium")
}

/// The file of an example.
pub fn example(name: &str) -> anyhow::Result<PathBuf> {
    beside(&format!("examples/{name}"))
}

fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "release"));
    let path = folder.context("tests run with --release alone: use `make test`")?.join(name);
    ensure!(path.exists(), "{} is missing: run `make test`, which builds it first", path.display());
    Ok(path)
}

/// The program with these arguments and nothing of our environment that changes what it says.
pub fn command(arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(path()?);
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RUSTORIUM_")) {
        command.env_remove(name);
    }
    Ok(command)
}

/// Runs the program to its end.
pub fn run(arguments: &[&str]) -> anyhow::Result<Output> {
    output(command(arguments)?).with_context(|| format!("rustorium {}", arguments.join(" ")))
}

/// Runs a command to its end, which must come.
pub fn output(mut command: Command) -> anyhow::Result<Output> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (mut stdout, mut stderr) = (child.stdout.take().context("stdout")?, child.stderr.take().context("stderr")?);
    let out = thread::spawn(move || read(&mut stdout));
    let err = thread::spawn(move || read(&mut stderr));
    let status = wait(&mut child, COMMAND_TIMEOUT);
    if status.is_err() {
        let _ = child.kill();
    }
    let join = |thread: thread::JoinHandle<std::io::Result<Vec<u8>>>| thread.join().expect("reading does not panic");
    Ok(Output { status: status?, stdout: join(out)?, stderr: join(err)? })
}

/// Runs the program, which must end with this exit code, and answers its stdout and stderr.
pub fn run_to(code: i32, arguments: &[&str]) -> anyhow::Result<(String, String)> {
    let Output { status, stdout, stderr } = run(arguments)?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (stdout, stderr) = (text(stdout), text(stderr));
    ensure!(
        status.code() == Some(code),
        "rustorium {}: {status} instead of {code}\n{stdout:.2000}{stderr}",
        arguments.join(" ")
    );
    Ok((stdout, stderr))
}

/// Waits until a process has ended.
pub fn wait(child: &mut Child, timeout: Duration) -> anyhow::Result<ExitStatus> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            bail!("still running after {timeout:?}");
        }
        thread::sleep(POLL);
    }
}

fn read(from: &mut impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    Ok(bytes)
}
