//! Limits that the system sets a process.

use crate::site::{Finished, Site, finish};

/// Nobody's number, by convention; root is not held to a limit of processes.
const NOBODY: u32 = 65_534;

/// `sortie up --dev` under this limit, which is expected to fail.
async fn limited(site: &Site, limit: &str, user: Option<u32>) -> Finished {
    let mut command = site.command("prlimit");
    command.args([limit, env!("CARGO_BIN_EXE_sortie"), "up", "--dev", "--listen", "127.0.0.1:0"]);
    if let Some(user) = user {
        command.uid(user).gid(user).current_dir("/");
    }
    finish(command).await
}

#[tokio::test]
async fn a_process_that_may_have_too_few_threads_says_so() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can become another user: nothing was tested");
        return;
    }
    let site = Site::new();
    let finished = limited(&site, "--nproc=3", Some(NOBODY)).await;
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("ulimit -u") && !finished.stderr.contains("panicked"),
        "{}",
        finished.stderr
    );
}

#[tokio::test]
async fn a_process_that_may_write_no_files_says_so() {
    let site = Site::new();
    let finished = limited(&site, "--fsize=0", None).await;
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("File too large") && !finished.stderr.contains("panicked"),
        "{}",
        finished.stderr
    );
}

#[tokio::test]
async fn a_process_that_may_open_few_files_says_so() {
    let site = Site::new();
    for limit in [5, 6, 7, 8, 12, 16, 63] {
        let finished = limited(&site, &format!("--nofile={limit}"), None).await;
        assert_eq!(finished.code, Some(1), "{limit}: {}", finished.stderr);
        assert!(
            finished.stderr.contains("ulimit -n") && !finished.stderr.contains("panicked"),
            "{}",
            finished.stderr
        );
    }
}
