//! Ports: unique to each server, and known ports in use.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

use proptest::collection::vec;
use proptest::prelude::*;
use sortie_sidecar::resolver::ResolveError;
use sortie_sidecar::resolver::ports::{MAX_RANGES, MAX_TESTS, PortRange, Ports};

fn ranges(bounds: &[(u16, u16)]) -> Vec<PortRange> {
    bounds.iter().map(|(min, max)| PortRange::new(*min, *max).unwrap()).collect()
}

/// Ports bound by other programs.
type Bound = Arc<Mutex<BTreeSet<u16>>>;

fn pool(bounds: &[(u16, u16)], bound: &[u16]) -> (Ports, Bound) {
    let bound: Bound = Arc::new(Mutex::new(bound.iter().copied().collect()));
    let by_others = Arc::clone(&bound);
    let is_free = Box::new(move |port| !by_others.lock().unwrap().contains(&port));
    (Ports::with(&ranges(bounds), is_free).unwrap(), bound)
}

fn error(ports: &Ports, server: &str) -> String {
    ports.get(server).unwrap_err().to_string()
}

#[test]
fn without_ranges_there_is_no_port_and_a_fixed_one_is_shared() {
    assert_eq!(Ports::of(&[]).unwrap().get("a"), Ok(None));
    let fixed = Ports::fixed(Some(7777));
    fixed.claim("a", 1);
    assert_eq!((fixed.get("a"), fixed.get("b")), (Ok(Some(7777)), Ok(Some(7777))));
}

#[test]
fn what_is_bound_is_passed_over() {
    let (ports, _) = pool(&[(7000, 7003)], &[7000, 7002]);
    assert_eq!((ports.get("a"), ports.get("b")), (Ok(Some(7001)), Ok(Some(7003))));
    assert_eq!(
        error(&ports, "c"),
        "none of the 2 remaining ports of AvailablePorts is free: other programs have bound them. Add some, or let \
         the server say in its connection details which one it listens on"
    );
}

#[test]
fn a_port_rests_before_it_is_given_again() {
    let (ports, _) = pool(&[(7000, 7002)], &[]);
    assert_eq!(ports.get("a"), Ok(Some(7000)));
    ports.release("a");
    assert_eq!(
        (ports.get("a"), ports.get("b"), ports.get("c")),
        (Ok(Some(7001)), Ok(Some(7002)), Ok(Some(7000)))
    );
    assert_eq!(
        error(&ports, "d"),
        "all 3 ports of AvailablePorts are assigned to servers of this sidecar: add some"
    );
    ports.release("b");
    ports.release("nobody");
    assert_eq!(ports.get("d"), Ok(Some(7002)));
}

#[test]
fn the_only_port_is_the_servers_own_though_it_is_bound() {
    let (ports, _) = pool(&[(7777, 7777), (7777, 7777)], &[7777]);
    assert_eq!((ports.get("a"), ports.get("a")), (Ok(Some(7777)), Ok(Some(7777))));
    assert!(error(&ports, "b").starts_with("all 1 ports"));
}

#[test]
fn a_port_that_a_server_listens_on_is_its_own() {
    let (ports, _) = pool(&[(7000, 7002)], &[7001]);
    assert_eq!(ports.get("a"), Ok(Some(7000)));
    ports.claim("b", 7001);
    assert_eq!(ports.get("b"), Ok(Some(7001)));
    // Another server's, and one that players could not reach.
    ports.claim("b", 7000);
    ports.claim("b", 9999);
    assert_eq!((ports.get("a"), ports.get("b")), (Ok(Some(7000)), Ok(Some(7001))));
    // Its previous port is free again.
    ports.claim("a", 7002);
    assert_eq!((ports.get("a"), ports.get("c")), (Ok(Some(7002)), Ok(Some(7000))));
}

#[test]
fn a_search_among_bound_ports_is_bounded_and_resumes() {
    let max = u16::try_from(MAX_TESTS).unwrap();
    let bound: Vec<u16> = (1..=max).collect();
    let (ports, _) = pool(&[(1, max + 1)], &bound);
    assert!(error(&ports, "a").starts_with(&format!("none of the {MAX_TESTS} remaining ports")));
    assert_eq!(ports.get("a"), Ok(Some(max + 1)));
}

#[test]
fn too_many_ranges() {
    let many = ranges(&vec![(1, 1); MAX_RANGES + 1]);
    let error = Ports::of(&many).unwrap_err();
    assert_eq!(
        (error.key, error.to_string().as_str()),
        ("AvailablePorts", "has 65 entries, at most 64 are allowed")
    );
}

#[test]
fn ports_of_this_machine_are_tested() {
    // Below the ephemeral range, so that no other test gets one of them.
    let mut free = (21_000..32_000).filter(|port| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
            && UdpSocket::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
    });
    let [one, other] = [free.next().unwrap(), free.next().unwrap()];
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, one)).unwrap();
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, other)).unwrap();
    let ports = Ports::of(&ranges(&[(one, one), (other, other)])).unwrap();
    assert!(error(&ports, "a").starts_with("none of the 2 remaining ports"));
    drop(udp);
    assert_eq!(freed(&ports, "a"), Ok(Some(one)));
    assert!(error(&ports, "b").starts_with("none of the 1 remaining ports"));
    drop(tcp);
    assert_eq!(freed(&ports, "b"), Ok(Some(other)));
}

/// The port of a server, once it is free: a program that another test is just starting has a copy of every socket until
/// it runs.
fn freed(ports: &Ports, server: &str) -> Result<Option<u16>, ResolveError> {
    for _ in 0..100_000 {
        if let Ok(port) = ports.get(server) {
            return Ok(port);
        }
        std::thread::yield_now();
    }
    ports.get(server)
}

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Release(u8),
    Claim(u8, u16),
    Bind(u16),
    Unbind(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let port = 1..12_u16;
    prop_oneof![
        (0..6_u8).prop_map(Step::Get),
        (0..6_u8).prop_map(Step::Release),
        (0..6_u8, port.clone()).prop_map(|(server, port)| Step::Claim(server, port)),
        port.clone().prop_map(Step::Bind),
        port.prop_map(Step::Unbind),
    ]
}

proptest! {
    #[test]
    fn no_port_is_given_twice_or_from_outside_or_taken_back(
        bounds in vec((1..10_u16, 0..4_u16), 1..4),
        steps in vec(step(), 0..80),
    ) {
        let bounds: Vec<_> = bounds.into_iter().map(|(min, more)| (min, min + more)).collect();
        let all: BTreeSet<u16> = bounds.iter().flat_map(|(min, max)| *min..=*max).collect();
        let (ports, bound) = pool(&bounds, &[]);
        let mut given: BTreeMap<u8, u16> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Get(server) => {
                    let taken: BTreeSet<u16> = given.values().copied().collect();
                    match (ports.get(&server.to_string()), given.get(&server)) {
                        (Ok(Some(port)), Some(before)) => prop_assert_eq!(port, *before),
                        (Ok(Some(port)), None) => {
                            prop_assert!(all.contains(&port) && !taken.contains(&port));
                            prop_assert!(all.len() == 1 || !bound.lock().unwrap().contains(&port));
                            given.insert(server, port);
                        }
                        (Err(_), None) => {
                            let bound = bound.lock().unwrap();
                            let open = |port: &&u16| !taken.contains(port) && (all.len() == 1 || !bound.contains(port));
                            prop_assert_eq!(all.iter().find(open), None);
                        }
                        (other, before) => prop_assert!(false, "{other:?} after {before:?}"),
                    }
                }
                Step::Release(server) => {
                    ports.release(&server.to_string());
                    given.remove(&server);
                }
                Step::Claim(server, port) => {
                    ports.claim(&server.to_string(), port);
                    if all.contains(&port) && given.values().all(|other| *other != port) {
                        given.insert(server, port);
                    }
                }
                Step::Bind(port) => drop(bound.lock().unwrap().insert(port)),
                Step::Unbind(port) => drop(bound.lock().unwrap().remove(&port)),
            }
        }
    }
}
