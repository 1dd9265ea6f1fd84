//! Servers outlive the control plane.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, WaitOptions, waitpid};

use sortie_allocators::{Allocator, StartOrder};

use super::harness::{Harness, Opened, eventually, is_alive, kill, own_duration, sleepers};
use crate::conformance::order;

/// Ends on request, and at the latest with the folder of its test.
const SERVER: &str = "echo $$ >> pid; while [ -e pid ] && [ ! -e go ]; do sleep 0.01; done; exit 3";

/// A server of a control plane that is gone.
async fn left_running(harness: &Harness) -> (StartOrder, i32) {
    let order = order("a", "eu");
    let Opened { allocator, .. } = harness.open(harness.fleet(SERVER)).await;
    allocator.start(&order).await.unwrap();
    (order, harness.pid("pid").await)
}

/// Ends it as if nobody had watched; reaped, as by its next parent.
fn end_unwatched(pid: i32) {
    kill(pid);
    waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap();
}

#[tokio::test]
async fn a_server_that_runs_is_taken_over_and_not_started_again() {
    let harness = Harness::new();
    let (order, pid) = left_running(&harness).await;
    let opened = harness.open(harness.fleet(SERVER)).await;
    assert_eq!(opened.taken_over.len(), 1);
    let placement = &opened.taken_over[0];
    assert_eq!((&placement.allocation, &placement.server), (&order.allocation, &order.server));
    assert!(placement.id.starts_with(&format!("process {pid}, port ")), "{}", placement.id);
    assert_eq!(opened.allocator.describe(&order.allocation).await.unwrap().as_ref(), Some(placement));
    let other = self::order("b", "eu").allocation;
    assert_eq!(opened.allocator.describe(&other).await.unwrap(), None);
    opened.allocator.start(&order).await.unwrap();
    assert_eq!(harness.pid("pid").await, pid, "no second server wrote its number");
    opened.allocator.stop(&order.allocation, &order.server).await.unwrap();
    assert!(!is_alive(pid) && !harness.record(&order).exists());
}

#[tokio::test]
async fn the_exit_of_a_server_that_was_taken_over_is_noticed() {
    let harness = Harness::new();
    let (order, pid) = left_running(&harness).await;
    let mut opened = harness.open(harness.fleet(SERVER)).await;
    assert!(is_alive(pid) && opened.is_silent());
    std::fs::write(harness.out("go"), "").unwrap();
    let exit = opened.exit().await;
    assert_eq!((exit.allocation, exit.status.as_str()), (order.allocation, "exit status 3"));
}

/// A server whose parent is another process, as after a real restart: that process gets its status.
#[tokio::test]
async fn the_exit_of_a_server_that_is_not_a_child_is_noticed() {
    let harness = Harness::new();
    drop(harness.open(harness.fleet(SERVER)).await);
    let variables = [
        ("SORTIE_DATA_ID", harness.installation.as_str()),
        ("SORTIE_ALLOCATION_ID", "allocation-a"),
        ("SORTIE_SERVER_ID", "server-a"),
        ("SORTIE_FLEET", "eu"),
        ("SORTIE_PORT", "21000"),
    ];
    // Its parent ends at once, so that the process that adopts orphans becomes its parent.
    let mut parent = Command::new("/bin/sh");
    parent.args(["-c", "setsid sh -c \"$0\" &", SERVER]).current_dir(harness.out("")).envs(variables);
    assert!(parent.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap().success());
    let pid = harness.pid("pid").await;
    let mut opened = harness.open(harness.fleet(SERVER)).await;
    let ids: Vec<_> = opened.taken_over.iter().map(|placement| placement.id.clone()).collect();
    assert_eq!(ids, [format!("process {pid}, port 21000")]);
    std::fs::write(harness.out("go"), "").unwrap();
    let exit = opened.exit().await;
    assert_eq!(exit.allocation.as_str(), "allocation-a");
    assert!(exit.status.contains("status is unknown"), "{}", exit.status);
}

#[tokio::test]
async fn a_server_that_ended_in_between_is_reported() {
    let harness = Harness::new();
    let (order, pid) = left_running(&harness).await;
    end_unwatched(pid);
    let mut opened = harness.open(harness.fleet(SERVER)).await;
    assert!(opened.taken_over.is_empty());
    let exit = opened.exit().await;
    assert_eq!(exit.allocation, order.allocation);
    assert_eq!(exit.status, "exited while the control plane was not running");
}

#[tokio::test]
async fn leftovers_of_a_server_that_ended_in_between_are_killed() {
    let harness = Harness::new();
    let order = order("a", "eu");
    let Opened { allocator, .. } =
        harness.open(harness.fleet("sleep 1000 & echo $! > child; echo $$ > pid; wait")).await;
    allocator.start(&order).await.unwrap();
    let (pid, child) = (harness.pid("pid").await, harness.pid("child").await);
    drop(allocator);
    end_unwatched(pid);
    assert!(is_alive(child));
    let mut opened = harness.open(harness.fleet(SERVER)).await;
    opened.exit().await;
    assert!(!is_alive(child));
}

#[tokio::test]
async fn an_unconfirmed_report_is_repeated() {
    let harness = Harness::new();
    let order = order("a", "eu");
    let mut opened = harness.open_with([("eu", harness.fleet("exit 3"))], false).await;
    opened.allocator.start(&order).await.unwrap();
    assert_eq!(opened.exit().await.status, "exit status 3");
    drop(opened);
    let mut opened = harness.open(harness.fleet("exit 3")).await;
    assert_eq!(opened.exit().await.allocation, order.allocation);
    drop(opened);
}

#[tokio::test]
async fn a_server_without_a_record_is_taken_over_by_its_environment() {
    let harness = Harness::new();
    let (order, pid) = left_running(&harness).await;
    let recorded = std::fs::read_to_string(harness.record(&order)).unwrap();
    std::fs::remove_file(harness.record(&order)).unwrap();
    let opened = harness.open(harness.fleet(SERVER)).await;
    assert_eq!(opened.taken_over.len(), 1);
    let rebuilt = std::fs::read_to_string(harness.record(&order)).unwrap();
    let but_for_people = |record: &str| record.split("\"started_at\"").next().unwrap().to_owned();
    assert_eq!(but_for_people(&rebuilt), but_for_people(&recorded));
    let group =
        |record: &str| serde_json::from_str::<serde_json::Value>(record).unwrap()["control_group"].clone();
    assert_eq!(group(&rebuilt), group(&recorded));
    opened.allocator.start(&order).await.unwrap();
    assert_eq!(harness.pid("pid").await, pid);
}

/// A daemon that only its control group distinguishes from other processes.
#[tokio::test]
async fn what_is_left_in_a_control_group_without_a_record_is_killed() {
    let harness = Harness::new();
    let order = order("a", "eu");
    let duration = own_duration();
    let script = format!("env -i setsid -f sleep {duration}; echo $$ > pid; exec sleep 1000");
    let Opened { allocator, .. } = harness.open(harness.fleet(&script)).await;
    allocator.start(&order).await.unwrap();
    let pid = harness.pid("pid").await;
    let daemon = eventually("a daemon", || sleepers(&duration).first().copied()).await;
    let group = harness.control_group(&order);
    drop(allocator);
    end_unwatched(pid);
    std::fs::remove_file(harness.record(&order)).unwrap();
    let opened = harness.open(harness.fleet("exec sleep 1000")).await;
    // The next server of the allocation is not mistaken for a leftover.
    opened.allocator.start(&order).await.unwrap();
    match group {
        Some(group) => assert!(!is_alive(daemon) && harness.control_group(&order) == Some(group)),
        None => kill(daemon),
    }
    harness.processes_are(1).await;
    opened.allocator.stop(&order.allocation, &order.server).await.unwrap();
}

#[tokio::test]
async fn what_is_left_without_a_record_and_a_server_is_killed() {
    let harness = Harness::new();
    let order = order("a", "eu");
    let fleet = || harness.fleet("sleep 1000 & echo $! > child; echo $$ > pid; wait");
    let Opened { allocator, .. } = harness.open(fleet()).await;
    allocator.start(&order).await.unwrap();
    let (pid, child) = (harness.pid("pid").await, harness.pid("child").await);
    drop(allocator);
    std::fs::remove_file(harness.record(&order)).unwrap();
    end_unwatched(pid);
    let mut opened = harness.open(fleet()).await;
    assert!(opened.taken_over.is_empty() && opened.is_silent());
    opened.allocator.start(&order).await.unwrap();
    assert!(!is_alive(child), "a server is started when nothing of the last one is left");
    // The order is carried out as if for the first time.
    harness.processes_are(2).await;
}

/// A process that is not ours.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn another_process_that_got_the_number_of_a_server_is_left_alone() {
    let harness = Harness::new();
    let (order, pid) = left_running(&harness).await;
    end_unwatched(pid);
    let bystander = Bystander::new();
    let record = std::fs::read(harness.record(&order)).unwrap();
    let mut reused: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let ticks = reused["process_start_ticks"].as_u64().unwrap();
    reused["pid"] = bystander.pid().into();
    // Long before: perhaps the two were started within one tick of the clock.
    reused["process_start_ticks"] = (ticks / 2).into();
    std::fs::write(harness.record(&order), reused.to_string()).unwrap();
    let mut opened = harness.open(harness.fleet(SERVER)).await;
    assert!(opened.taken_over.is_empty());
    assert_eq!(opened.exit().await.status, "exited while the control plane was not running");
    opened.allocator.stop(&order.allocation, &order.server).await.unwrap();
    assert!(is_alive(bystander.pid()));
}

#[tokio::test]
async fn a_record_of_an_earlier_boot_means_no_process_of_this_one() {
    let mut harness = Harness::new();
    let (order, pid) = left_running(&harness).await;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let record = std::fs::read_to_string(harness.record(&order)).unwrap();
    let before = record.replace(boot.trim(), "00000000-0000-0000-0000-000000000000");
    assert_ne!(before, record);
    // Such a process has none of our variables.
    let before = before.replace(&harness.installation, "another");
    std::fs::write(harness.record(&order), before).unwrap();
    harness.installation = "another".to_owned();
    let mut opened = harness.open(harness.fleet(SERVER)).await;
    assert_eq!(opened.exit().await.status, "exited while the control plane was not running");
    assert!(is_alive(pid));
    end_unwatched(pid);
}

/// The content of a copied folder, including records, belongs to the original.
#[tokio::test]
async fn servers_of_another_installation_are_left_alone() {
    let mut harness = Harness::new();
    let (order, pid) = left_running(&harness).await;
    let original = std::mem::replace(&mut harness.installation, "copy".to_owned());
    let mut opened = harness.open(harness.fleet(SERVER)).await;
    assert!(opened.taken_over.is_empty() && opened.is_silent());
    assert_eq!(opened.allocator.describe(&order.allocation).await.unwrap(), None);
    opened.allocator.stop(&order.allocation, &order.server).await.unwrap();
    opened.allocator.stop_all(std::time::Duration::ZERO).await.unwrap();
    assert!(is_alive(pid));
    assert!(harness.kept(&format!("{}.foreign", order.allocation)).exists());
    end_unwatched(pid);
    harness.installation = original;
}

#[tokio::test]
async fn a_server_of_a_fleet_that_is_no_longer_configured_can_be_stopped() {
    let harness = Harness::new();
    let (order, pid) = left_running(&harness).await;
    let opened = harness.open_with([], true).await;
    assert_eq!(opened.taken_over.len(), 1);
    opened.allocator.stop(&order.allocation, &order.server).await.unwrap();
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_server_that_was_taken_over_keeps_its_port() {
    let harness = Harness::new();
    let mut fleet = harness.fleet("echo $SORTIE_PORT > port; exec sleep 1000");
    let Opened { allocator, .. } = harness.open(fleet.clone()).await;
    let one = order("one", "eu");
    allocator.start(&one).await.unwrap();
    let port = harness.line("port").await.parse().unwrap();
    drop(allocator);
    fleet.process.ports = port..=port;
    let opened = harness.open(fleet).await;
    let two = order("two", "eu");
    assert!(opened.allocator.start(&two).await.unwrap_err().message.contains(&port.to_string()));
    opened.allocator.stop(&one.allocation, &one.server).await.unwrap();
    opened.starts(&two).await;
}

#[tokio::test]
async fn a_server_that_outlives_the_control_plane_goes_on_writing() {
    let harness = Harness::new();
    let script = "echo $$ > pid; echo before; while [ ! -e go ]; do sleep 0.01; done; echo after";
    let Opened { allocator, .. } = harness.open(harness.fleet(script)).await;
    allocator.start(&order("a", "eu")).await.unwrap();
    harness.pid("pid").await;
    drop(allocator);
    let mut opened = harness.open(harness.fleet(script)).await;
    std::fs::write(harness.out("go"), "").unwrap();
    assert_eq!(opened.exit().await.status, "exit status 0");
    assert_eq!(std::fs::read_to_string(harness.kept("allocation-a.log")).unwrap(), "before\nafter\n");
}
