//! How servers end, and what is left of them.

use std::time::Duration;

use sortie_allocators::{Allocator, ErrorClass};

use super::harness::{Harness, eventually, is_alive, kill, own_duration, size, sleepers, taken_port};
use crate::conformance::order;

#[tokio::test]
async fn a_stopped_server_has_time_to_clean_up_and_is_not_reported() {
    let harness = Harness::new();
    let script = "trap 'echo bye > bye; exit 7' TERM; echo $$ > pid; while :; do sleep 0.01; done";
    let mut opened = harness.open(harness.fleet(script)).await;
    let order = order("a", "eu");
    opened.allocator.start(&order).await.unwrap();
    let pid = harness.pid("pid").await;
    assert!(is_alive(pid) && harness.record(&order).exists());
    opened.allocator.stop(&order.allocation, &order.server).await.unwrap();
    assert_eq!(harness.line("bye").await, "bye");
    assert!(!is_alive(pid) && !harness.record(&order).exists());
    assert!(opened.is_silent(), "whoever ordered the stop knows");
}

#[tokio::test]
async fn a_server_that_ignores_sigterm_is_killed_after_its_grace() {
    let harness = Harness::new();
    let script = "trap '' TERM; echo $$ > pid; while :; do sleep 0.01; done";
    let mut fleet = harness.fleet(script);
    fleet.process.stop_grace = Duration::from_millis(50);
    let opened = harness.open(fleet).await;
    let order = order("a", "eu");
    opened.allocator.start(&order).await.unwrap();
    let pid = harness.pid("pid").await;
    opened.allocator.stop(&order.allocation, &order.server).await.unwrap();
    assert!(!is_alive(pid));
    assert_eq!(harness.processes(None), [] as [i32; 0]);
}

/// In the group, in the group without our variables, and out of the group.
const FORKS: &str = "sleep 1000 & echo $! > child; env -i sleep 1000 & echo $! > bare; \
    setsid sh -c 'echo $$ > left; exec sleep 1000' & ";

async fn forked(harness: &Harness) -> [i32; 3] {
    [harness.pid("child").await, harness.pid("bare").await, harness.pid("left").await]
}

#[tokio::test]
async fn whatever_a_server_started_is_stopped_with_it() {
    let harness = Harness::new();
    let opened = harness
        .open(harness.fleet(&format!("{FORKS} trap 'exit 0' TERM; while :; do sleep 0.01; done")))
        .await;
    let order = order("a", "eu");
    opened.allocator.start(&order).await.unwrap();
    let forked = forked(&harness).await;
    assert!(forked.into_iter().all(is_alive));
    opened.allocator.stop(&order.allocation, &order.server).await.unwrap();
    assert!(!forked.into_iter().any(is_alive));
}

#[tokio::test]
async fn an_exit_is_reported_with_its_status_and_nothing_is_left() {
    let harness = Harness::new();
    let script = format!("{FORKS} while [ ! -e go ]; do sleep 0.01; done; exit 3");
    let mut opened = harness.open(harness.fleet(&script)).await;
    let order = order("a", "eu");
    opened.allocator.start(&order).await.unwrap();
    let forked = forked(&harness).await;
    std::fs::write(harness.out("go"), "").unwrap();
    let exit = opened.exit().await;
    assert_eq!((exit.allocation, exit.server), (order.allocation.clone(), order.server.clone()));
    assert_eq!(exit.status, "exit status 3");
    assert!(!forked.into_iter().any(is_alive));
    opened.allocator.stop(&order.allocation, &order.server).await.expect("what has ended is stopped");
    assert!(!harness.record(&order).exists());
}

#[tokio::test]
async fn a_crash_is_reported_with_its_signal() {
    let harness = Harness::new();
    let mut opened = harness.open(harness.fleet("kill -SEGV $$")).await;
    opened.allocator.start(&order("a", "eu")).await.unwrap();
    assert_eq!(opened.exit().await.status, "killed by signal 11 (SIGSEGV)");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_unconfirmed_report() {
    let harness = Harness::new();
    let mut opened = harness.open_with([("eu", harness.fleet("exit 0"))], false).await;
    let order = order("a", "eu");
    opened.allocator.start(&order).await.unwrap();
    assert_eq!(opened.exit().await.status, "exit status 0");
    assert!(harness.record(&order).exists(), "nobody has taken the news");
    opened.allocator.stop(&order.allocation, &order.server).await.unwrap();
    assert!(!harness.record(&order).exists());
}

#[tokio::test]
async fn a_port_is_free_again_before_the_news_are_taken() {
    let harness = Harness::new();
    let (socket, port) = taken_port();
    let mut fleet = harness.fleet("exit 0");
    fleet.process.ports = port..=port;
    let mut opened = harness.open_with([("eu", fleet)], false).await;
    drop(socket);
    for name in ["one", "two"] {
        opened.starts(&order(name, "eu")).await;
        assert_eq!(opened.exit().await.server.as_str(), format!("server-{name}"));
    }
}

#[tokio::test]
async fn the_reaper_stops_servers_that_are_too_old_and_says_so() {
    let harness = Harness::new();
    let mut fleet = harness.fleet("echo $$ > pid; exec sleep 1000");
    fleet.process.max_run_time = Duration::from_millis(300);
    let mut opened = harness.open(fleet).await;
    let order = order("a", "eu");
    opened.allocator.start(&order).await.unwrap();
    let pid = harness.pid("pid").await;
    let exit = opened.exit().await;
    assert_eq!(exit.allocation, order.allocation);
    assert_eq!(exit.status, "stopped: it ran longer than its fleet's max_run_time of 300ms");
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn output_is_captured() {
    let harness = Harness::new();
    let mut opened = harness.open(harness.fleet("echo to stdout; echo to stderr >&2; cat")).await;
    let order = order("a", "eu");
    opened.allocator.start(&order).await.unwrap();
    assert_eq!(opened.exit().await.status, "exit status 0", "cat finds the end of its input at once");
    let log = std::fs::read_to_string(harness.kept("allocation-a.log")).unwrap();
    assert_eq!(log, "to stdout\nto stderr\n");
}

#[tokio::test]
async fn output_never_takes_more_than_its_limit_and_its_newest_part_is_kept() {
    const LIMIT: u64 = 20_000;
    let harness = Harness::new();
    // Megabytes, as fast as possible.
    let script = "while [ ! -e go ]; do head -c 1000000 /dev/zero; echo > written; done; echo the end";
    let mut fleet = harness.fleet(script);
    fleet.process.output_limit = LIMIT;
    let mut opened = harness.open(fleet).await;
    let order = order("a", "eu");
    opened.allocator.start(&order).await.unwrap();
    let (log, older) = (harness.kept("allocation-a.log"), harness.kept("allocation-a.log.1"));
    let mut max = 0;
    for _ in 0..3 {
        eventually("much output", || {
            // The older part first: what is moved there in between is missed at most once.
            max = max.max(size(&older)).max(size(&log));
            std::fs::remove_file(harness.out("written")).ok()
        })
        .await;
    }
    std::fs::write(harness.out("go"), "").unwrap();
    assert_eq!(opened.exit().await.status, "exit status 0");
    max = max.max(size(&older)).max(size(&log));
    assert!(max > 0 && max <= LIMIT / 2, "{max}");
    let kept = std::fs::read(&log).unwrap();
    assert!(kept.ends_with(b"the end\n"), "{}", kept.len());
}

/// In its very first instruction each server starts a daemon: in another session, without a parent or a variable of
/// ours.
#[tokio::test]
async fn a_daemon_of_the_first_instruction_is_found_where_there_are_control_groups() {
    const SERVERS: usize = 20;
    let harness = Harness::new();
    let duration = own_duration();
    let opened =
        harness.open(harness.fleet(&format!("env -i setsid -f sleep {duration}; exec sleep 1000"))).await;
    let mut left = Vec::new();
    for number in 0..SERVERS {
        let order = order(&number.to_string(), "eu");
        opened.allocator.start(&order).await.unwrap();
        let daemon = eventually("a daemon", || sleepers(&duration).first().copied()).await;
        let group = harness.control_group(&order);
        opened.allocator.stop(&order.allocation, &order.server).await.unwrap();
        assert!(group.is_none_or(|group| !group.exists()));
        if is_alive(daemon) {
            left.push(daemon);
            kill(daemon);
            eventually("end of the daemon", || (!is_alive(daemon)).then_some(())).await;
        }
    }
    // Elsewhere nothing distinguishes it from other processes, as docs/operations.md says.
    let expected = if harness.has_control_groups() { 0 } else { SERVERS };
    assert_eq!(left.len(), expected, "{left:?}");
    assert_eq!(harness.processes(None), [] as [i32; 0]);
}

/// A server that may create groups of its own, and move its processes to them.
#[tokio::test]
async fn a_daemon_in_a_group_of_its_own_is_found() {
    let harness = Harness::new();
    if !harness.has_control_groups() {
        // Then no server can create one either.
        return;
    }
    let duration = own_duration();
    let script = format!(
        "read group; mkdir -p $group/one/two; \
         sh -c \"echo \\$\\$ > $group/one/two/cgroup.procs; exec env -i setsid sleep {duration}\" & \
         exec sleep 1000"
    );
    let opened = harness
        .open(harness.fleet(&format!("while [ ! -e go ]; do sleep 0.01; done; {{ {script}; }} < go")))
        .await;
    let order = order("a", "eu");
    opened.allocator.start(&order).await.unwrap();
    let group = harness.control_group(&order).unwrap();
    std::fs::write(harness.out("go.tmp"), format!("{}\n", group.display())).unwrap();
    std::fs::rename(harness.out("go.tmp"), harness.out("go")).unwrap();
    let daemon = eventually("a daemon", || sleepers(&duration).first().copied()).await;
    let groups = std::fs::read_to_string(format!("/proc/{daemon}/cgroup")).unwrap();
    assert!(groups.trim().ends_with("/one/two"), "{groups}");
    opened.allocator.stop(&order.allocation, &order.server).await.unwrap();
    assert!(!is_alive(daemon) && !group.exists());
}

/// A server that runs as root may run something as another user.
#[tokio::test]
async fn a_process_of_another_user_is_found_where_there_are_control_groups() {
    let harness = Harness::new();
    if !(rustix::process::geteuid().is_root() && harness.has_control_groups()) {
        // Only root can become another user.
        return;
    }
    let duration = own_duration();
    let become_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let opened = harness
        .open(harness.fleet(&format!("setsid -f {become_nobody} sleep {duration}; exec sleep 1000")))
        .await;
    let order = order("a", "eu");
    opened.allocator.start(&order).await.unwrap();
    let other = eventually("another user's process", || sleepers(&duration).first().copied()).await;
    opened.allocator.stop(&order.allocation, &order.server).await.unwrap();
    assert!(!is_alive(other));
}

#[tokio::test]
async fn a_control_plane_that_takes_its_servers_with_it_starts_no_more() {
    let harness = Harness::new();
    let script = "trap '' TERM; echo $$ > $SORTIE_SERVER_ID; while :; do sleep 0.01; done";
    let mut opened = harness.open(harness.fleet(script)).await;
    let orders = ["one", "two", "three"].map(|name| order(name, "eu"));
    for order in &orders {
        opened.allocator.start(order).await.unwrap();
        harness.pid(order.server.as_str()).await;
    }
    assert_eq!(opened.allocator.stop_all(Duration::from_millis(50)).await, Ok(()));
    assert_eq!(harness.processes(None), [] as [i32; 0]);
    let error = opened.allocator.start(&order("four", "eu")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unreachable);
    for _ in &orders {
        assert_eq!(opened.exit().await.status, "stopped with the control plane");
    }
}

#[tokio::test]
async fn a_server_that_something_else_killed_is_reported() {
    let harness = Harness::new();
    let mut opened = harness.open(harness.fleet("echo $$ > pid; exec sleep 1000")).await;
    opened.allocator.start(&order("a", "eu")).await.unwrap();
    kill(harness.pid("pid").await);
    assert_eq!(opened.exit().await.status, "killed by signal 9 (SIGKILL)");
}
