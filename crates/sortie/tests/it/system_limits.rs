//! Limits that the system sets a process.

use crate::site::{Finished, NOBODY, Site, finish};

/// `sortie up --dev` under this limit, which is expected to fail.
async fn limited(site: &Site, limit: &str) -> Finished {
    let mut command = site.command("prlimit");
    command.args([limit, env!("CARGO_BIN_EXE_sortie")]).args(UP);
    finish(command).await
}

const UP: [&str; 4] = ["up", "--dev", "--listen", "127.0.0.1:0"];

/// Root is not held to a limit of processes.
#[tokio::test]
async fn a_process_that_may_have_too_few_threads_says_so() {
    let Some(site) = Site::of_nobody() else { return };
    let mut command = site.command("prlimit");
    command.arg("--nproc=3").arg(site.path("sortie")).args(UP).uid(NOBODY).gid(NOBODY);
    let finished = finish(command).await;
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
    let finished = limited(&site, "--fsize=0").await;
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("File too large") && !finished.stderr.contains("panicked"),
        "{}",
        finished.stderr
    );
}

#[tokio::test]
async fn a_process_that_has_a_small_stack_says_so() {
    let site = Site::new();
    for bytes in [65_536, 131_072, 262_144, 1_048_575] {
        let finished = limited(&site, &format!("--stack={bytes}:{bytes}")).await;
        assert_eq!(finished.code, Some(1), "{bytes}: {}", finished.stderr);
        assert!(finished.stderr.contains("ulimit -s"), "{bytes}: {}", finished.stderr);
    }
}

#[tokio::test]
async fn a_process_that_may_open_few_files_says_so() {
    let site = Site::new();
    for limit in [5, 6, 7, 8, 12, 16, 63] {
        let finished = limited(&site, &format!("--nofile={limit}")).await;
        assert_eq!(finished.code, Some(1), "{limit}: {}", finished.stderr);
        assert!(
            finished.stderr.contains("ulimit -n") && !finished.stderr.contains("panicked"),
            "{}",
            finished.stderr
        );
    }
}

/// A build for tests takes a quarter of this for its code and symbols alone; the system does not start it with less than that.
#[tokio::test]
async fn a_process_that_has_a_small_address_space_says_so() {
    let site = Site::new();
    for mebibytes in [512, 768, 1_023] {
        let finished = limited(&site, &format!("--as={}", mebibytes << 20)).await;
        assert_eq!(finished.code, Some(1), "{mebibytes}: {}", finished.stderr);
        assert!(finished.stderr.contains("ulimit -v"), "{mebibytes}: {}", finished.stderr);
    }
}
