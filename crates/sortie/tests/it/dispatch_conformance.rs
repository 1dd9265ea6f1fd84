//! `sortie dispatch` as drivers in another language meet it: a websocket client and frames that are not ours.

use crate::dispatcher::{Dispatcher, SECRET};
use crate::python;
use crate::site::Site;

#[tokio::test]
async fn a_driver_in_python_finds_the_contract_kept() {
    let site = Site::new();
    let mut dispatcher = Dispatcher::start(&site).await;
    let pid = dispatcher.process.pid.to_string();
    let said = python::run(&site, "dispatch_driver.py", &[&dispatcher.address, SECRET, &pid]).await.stdout;
    assert_eq!(said.trim().lines().last(), Some("done"), "{said}");
    // Its last act was to ask for the end.
    let log = dispatcher.process.log();
    assert_eq!(dispatcher.process.ended().await.code(), Some(0), "{log}");
    assert!(!log.contains(SECRET), "{log}");
}
