//! TLS at the port, by clients that use other libraries for it.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::control_plane::ControlPlane;
use crate::python;
use crate::site::{NONE, Site, finish, idle_fleet, soon};

/// Puts a new certificate for this machine there, and its root into `ca.pem`.
pub(crate) fn certify(site: &Site) {
    let mut root = CertificateParams::new([]).unwrap();
    root.distinguished_name.push(DnType::CommonName, "a root of a test");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &root).unwrap();
    fs::write(site.path("ca.pem"), root.pem()).unwrap();
    fs::write(site.path("tls.crt"), certificate.pem()).unwrap();
    fs::write(site.path("tls.key"), key.serialize_pem()).unwrap();
}

fn certified(mut config: Value) -> Site {
    config["tls"] = json!({"certificate": "tls.crt", "key": "tls.key", "ca": "ca.pem"});
    let site = Site::with_config(&config);
    certify(&site);
    site
}

fn curl(site: &Site, control_plane: &ControlPlane, version: &str) -> Command {
    let mut command = site.command("curl");
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*", version, "--cacert", "ca.pem"]);
    command.arg(format!("{}/healthz", control_plane.url));
    command
}

#[tokio::test]
async fn every_door_is_behind_it() {
    let site = certified(json!({"dev": true}));
    let control_plane = site.up(&[]).await;
    let (host, port) = control_plane.url.strip_prefix("https://").unwrap().split_once(':').unwrap();
    let root = site.path("ca.pem");
    python::run(&site, "tls_client.py", &[host, port, root.to_str().unwrap()]).await;
    for version in ["--http1.1", "--http2"] {
        let answer = finish(curl(&site, &control_plane, version)).await;
        assert_eq!(answer.stdout, r#"{"status":"ok"}"#, "{}", answer.stderr);
    }
    // The built-in game's servers call by it too, and so do its bots and the command line.
    let ca = ["--ca", "ca.pem"];
    let play = [&["arena", "play", "--players", "2", "--for", "1s", "--json"][..], &ca].concat();
    let played = control_plane.run_ok(&site, &play).await.json();
    assert_eq!(played["players_left"], 2, "{played}");
    control_plane.run_ok(&site, &[&["server", "list"][..], &ca].concat()).await;
    let stranger = control_plane.run(&site, &["server", "list"]).await;
    assert_eq!(stranger.code, Some(1), "nobody has told it whom to trust");
    assert!(stranger.stderr.contains("certificate"), "{}", stranger.stderr);
    control_plane.stop().await;
    assert_eq!(site.game_servers(), NONE);
}

/// Connects until it is with the root that `ca.pem` has now.
async fn connects(site: &Site, control_plane: &ControlPlane) {
    let connecting = async { while finish(curl(site, control_plane, "--http1.1")).await.code != Some(0) {} };
    soon("the new certificate", connecting).await;
}

#[tokio::test]
async fn a_new_certificate_counts_without_a_restart() {
    let site = certified(json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    let control_plane = site.up(&[]).await;
    // One connection that stays.
    let mut events = control_plane.events().await;
    certify(&site);
    connects(&site, &control_plane).await;
    let key = fs::read(site.path("tls.key")).unwrap();
    fs::write(site.path("tls.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let noticing = async {
        while !site.stderr().contains("does not belong to the first certificate") {
            connects(&site, &control_plane).await;
        }
    };
    soon("word of the wrong key", noticing).await;
    connects(&site, &control_plane).await;
    fs::write(site.path("tls.key"), key).unwrap();
    certify(&site);
    connects(&site, &control_plane).await;

    let mut submit = control_plane.command(&site, &["match", "submit", "--player", "p1"]);
    submit.args(["--ca", "ca.pem"]);
    let submitted = finish(submit).await;
    assert_eq!(submitted.code, Some(0), "{}", submitted.stderr);
    events.find("sortie.match.queued", None).await;
    drop(events);
    control_plane.stop().await;
}

#[tokio::test]
async fn files_of_no_use_are_told_at_the_start() {
    let site = certified(json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    assert_eq!(site.run(&["config", "check"]).await.code, Some(0));
    fs::write(site.path("tls.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let said = site.refused(&[]).await;
    assert!(said.contains("tls.key does not belong to the first certificate in"), "{said}");
    let checked = site.run(&["config", "check"]).await;
    assert_eq!(checked.code, Some(1), "{}", checked.stdout);
    fs::remove_file(site.path("tls.key")).unwrap();
    let said = site.refused(&[]).await;
    assert!(said.contains("cannot read") && said.contains("tls.key"), "{said}");
}
