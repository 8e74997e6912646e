//! A little of `make torture`: crashes of every kind for so many seconds.

use std::process::Command;

const SECONDS: &str = "20";
const KINDS: [&str; 7] =
    ["killed by the clock", "killed before", "killed after", "power lost in", "log cut", "restarts", "a front killed"];

#[test]
fn nothing_is_lost() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_torture"));
    let told = command.args(["--seconds", SECONDS, "--folder"]).arg(folder.path()).output()?;
    let said = String::from_utf8_lossy(&told.stdout);
    if told.status.success() && KINDS.iter().all(|kind| said.contains(kind)) {
        println!("{said}");
        return Ok(());
    }
    // What was found stays there.
    anyhow::bail!("{said}{}\nin {}", String::from_utf8_lossy(&told.stderr), folder.keep().display())
}
