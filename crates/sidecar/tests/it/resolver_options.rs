//! Resolvers that send no requests: their answers and their errors.

use std::net::IpAddr;
use std::sync::Arc;

use sortie_sidecar::resolver::{Resolver, from_settings};

use crate::settings::{SOURCE, app, variables};

/// The resolver that the settings select, or the problem.
fn resolver(name: &str, options: &str, given: &[(&str, &str)]) -> Result<Arc<dyn Resolver>, String> {
    let text = format!(r#"{SOURCE}, "resolver": {{"use": "{name}", "configs": {{"{name}": {options}}}}}"#);
    let settings = app(&text, given);
    let made =
        from_settings(settings.resolver.as_ref(), &variables(given)).map_err(|error| error.to_string());
    let made = made?.unwrap();
    assert_eq!(made.name(), name);
    Ok(made)
}

async fn address(name: &str, options: &str, given: &[(&str, &str)]) -> String {
    let resolver = resolver(name, options, given).unwrap();
    let address = resolver.resolve("server-1").await.unwrap();
    assert_eq!(resolver.resolve("server-1").await, Ok(address.clone()));
    resolver.release("server-1");
    address.to_string()
}

fn problem(name: &str, options: &str, given: &[(&str, &str)]) -> String {
    let Err(problem) = resolver(name, options, given) else { panic!("{name} {options}") };
    let path = format!("app.resolver.configs.{name}");
    problem.strip_prefix(&path).unwrap_or_else(|| panic!("{problem}")).to_owned()
}

#[test]
fn without_a_resolver_there_is_none() {
    let settings = app(SOURCE, &[]);
    assert!(from_settings(settings.resolver.as_ref(), &variables(&[])).unwrap().is_none());
}

#[tokio::test]
async fn a_static_address_is_as_it_is_written() {
    for text in ["server.local:8080", "203.0.113.7", "[2001:db8::7]:7777"] {
        assert_eq!(address("static_resolver", &format!(r#"{{"Address": "{text}"}}"#), &[]).await, text);
    }
}

#[tokio::test]
async fn docker_gets_the_address_from_the_environment_or_the_settings() {
    let docker = "docker_resolver";
    assert_eq!(address(docker, "{}", &[("HOST_IP", "203.0.113.7\n")]).await, "203.0.113.7");
    assert_eq!(address(docker, "{}", &[("HOST_IP", "203.0.113.7:7777")]).await, "203.0.113.7:7777");
    let given = [("WHERE", "host.example.com"), ("GAME_PORT", "30001"), ("HOST_IP", "other")];
    let options = r#"{"AddressEnv": "WHERE", "PortEnv": "GAME_PORT"}"#;
    assert_eq!(address(docker, options, &given).await, "host.example.com:30001");
    let options = r#"{"HostAddress": "203.0.113.7:1", "Port": 7777}"#;
    assert_eq!(address(docker, options, &given).await, "203.0.113.7:7777");
}

#[tokio::test]
async fn kubernetes_has_the_downward_api() {
    let kubernetes = "kubernetes_resolver";
    let all = [("NODE_IP", "203.0.113.1"), ("HOST_IP", "203.0.113.2"), ("POD_IP", "10.0.0.3")];
    assert_eq!(address(kubernetes, "{}", &all).await, "203.0.113.1");
    assert_eq!(address(kubernetes, "{}", &all[1..]).await, "203.0.113.2");
    assert_eq!(address(kubernetes, "{}", &[("NODE_IP", ""), ("POD_IP", "2001:db8::3")]).await, "2001:db8::3");
    assert_eq!(address(kubernetes, r#"{"AddressEnv": "POD_IP", "Port": 7777}"#, &all).await, "10.0.0.3:7777");
}

#[test]
fn docker_and_kubernetes_need_an_address() {
    assert_eq!(
        problem("docker_resolver", "{}", &[]),
        ".AddressEnv: no address: of the environment, HOST_IP is not set. Start the container with `--env HOST_IP=…`, \
         the address where players reach this machine, or give HostAddress"
    );
    assert_eq!(
        problem("kubernetes_resolver", "{}", &[("NODE_IP", " ")]),
        ".AddressEnv: no address: of the environment, NODE_IP, HOST_IP, POD_IP is not set. Give the container the field \
         `status.hostIP` as NODE_IP by the downward API, or name another variable in AddressEnv"
    );
    let given = [("HOST_IP", "203.0.113.7"), ("PORT", "many"), ("ZERO", "0")];
    let docker = |options: &str| problem("docker_resolver", options, &given);
    assert_eq!(
        docker(r#"{"PortEnv": "PORT"}"#),
        ".PortEnv: the environment variable PORT must hold a port from 1 to 65535, is \"many\""
    );
    assert!(docker(r#"{"PortEnv": "ZERO"}"#).ends_with("is \"0\""));
    assert_eq!(
        docker(r#"{"PortEnv": "NONE"}"#),
        ".PortEnv: the environment variable NONE is not set: give it the published port"
    );
    assert_eq!(docker(r#"{"PortEnv": "PORT", "Port": 1}"#), ".Port: give Port or PortEnv, not both");
    assert_eq!(docker(r#"{"Port": 0}"#), ".Port: must be a port from 1 to 65535");
    assert_eq!(
        docker(r#"{"HostAddress": "x", "AddressEnv": "HOST_IP"}"#),
        ".HostAddress: give HostAddress or AddressEnv, not both"
    );
    let wrong = problem("docker_resolver", "{}", &[("HOST_IP", "0.0.0.0")]);
    assert!(
        wrong.starts_with(".AddressEnv: the environment variable HOST_IP must be the address where"),
        "{wrong}"
    );
}

const MAPPING: &str = r#"{"ports": {"gameport": {"name": "gameport", "internal": 7777, "external": 31000, "protocol": "UDP"}}}"#;
const TWO: &str =
    r#"{"ports": {"game": {"external": "31000"}, "query": {"external": 31001, "link": "x"}}, "more": 1}"#;

#[tokio::test]
async fn edgegap_says_which_port_is_outside() {
    let edgegap = "edgegap_resolver";
    let with = |mapping| [("ARBITRIUM_PUBLIC_IP", "203.0.113.7"), ("ARBITRIUM_PORTS_MAPPING", mapping)];
    assert_eq!(address(edgegap, "{}", &with(MAPPING)).await, "203.0.113.7:31000");
    assert_eq!(address(edgegap, r#"{"PortName": "QUERY"}"#, &with(TWO)).await, "203.0.113.7:31001");
    assert_eq!(address(edgegap, r#"{"PortName": "game"}"#, &with(TWO)).await, "203.0.113.7:31000");
    assert_eq!(address(edgegap, "{}", &with(r#"{"ports": {}}"#)).await, "203.0.113.7");
    assert_eq!(address(edgegap, "{}", &with("")).await, "203.0.113.7");
    let own = [("ARBITRIUM_PUBLIC_IP", "203.0.113.7"), ("ARBITRIUM_PORT_GAME_EXTERNAL", "31005")];
    assert_eq!(address(edgegap, r#"{"PortName": "game"}"#, &own).await, "203.0.113.7:31005");
}

#[test]
fn edgegap_needs_an_address_and_a_port() {
    let edgegap = |options: &str, mapping: &str| {
        let given = [("ARBITRIUM_PUBLIC_IP", "203.0.113.7"), ("ARBITRIUM_PORTS_MAPPING", mapping)];
        problem("edgegap_resolver", options, &given)
    };
    assert_eq!(
        problem("edgegap_resolver", "{}", &[("ARBITRIUM_PORTS_MAPPING", MAPPING)]),
        ": the environment variable ARBITRIUM_PUBLIC_IP is not set: this is not an Edgegap deployment"
    );
    let wrong = problem("edgegap_resolver", "{}", &[("ARBITRIUM_PUBLIC_IP", "a b")]);
    assert!(
        wrong.starts_with(": the environment variable ARBITRIUM_PUBLIC_IP must be the address"),
        "{wrong}"
    );
    assert_eq!(edgegap("{}", TWO), ".PortName: must be given, as there are several ports: game, query");
    assert_eq!(
        edgegap(r#"{"PortName": "voice"}"#, TWO),
        ".PortName: there is no port \"voice\"; there are: game, query"
    );
    for external in ["0", "65536", "-1", "null", "\"x\"", "[]"] {
        let mapping = format!(r#"{{"ports": {{"game": {{"external": {external}}}}}}}"#);
        assert_eq!(
            edgegap("{}", &mapping),
            ".PortName: port \"game\" has no external port from 1 to 65535 in ARBITRIUM_PORTS_MAPPING"
        );
    }
    for mapping in ["[", r#"{"ports": []}"#, r#"{"ports": {"game": 5}}"#, r#"{"ports": {"game": {}}}"#] {
        let wrong = edgegap("{}", mapping);
        let begin = ".PortName: the environment variable ARBITRIUM_PORTS_MAPPING is not a mapping of ports: ";
        assert!(wrong.starts_with(begin), "{wrong}");
    }
    assert_eq!(
        edgegap(r#"{"PortName": "game"}"#, ""),
        ".PortName: neither of the environment variables ARBITRIUM_PORTS_MAPPING and ARBITRIUM_PORT_GAME_EXTERNAL contains \
         this port"
    );
}

#[tokio::test]
async fn an_interface_has_its_address() {
    let interface = "interface_resolver";
    assert_eq!(address(interface, r#"{"Interface": "lo", "Port": 7777}"#, &[]).await, "127.0.0.1:7777");
    let options = r#"{"Interface": "lo", "Family": "ipv4", "AvailablePorts": [{"Min": 7777, "Max": 7777}]}"#;
    let resolver = resolver(interface, options, &[]).unwrap();
    assert_eq!(resolver.resolve("a").await.unwrap().to_string(), "127.0.0.1:7777");
    let error = resolver.resolve("b").await.unwrap_err().to_string();
    assert!(error.starts_with("all 1 ports of AvailablePorts are assigned"), "{error}");
    resolver.release("a");
    assert!(resolver.resolve("b").await.is_ok());
}

/// A machine may have no network at all, and then there is an error.
#[tokio::test]
async fn the_default_route_has_an_interface() {
    match resolver("interface_resolver", "{}", &[]).unwrap().resolve("a").await {
        Ok(address) => {
            let ip: IpAddr = address.host.parse().unwrap();
            assert!(!ip.is_unspecified() && !ip.is_loopback(), "{ip}");
            assert_eq!(address.port, None);
        }
        Err(error) => assert_eq!(error.to_string(), "this machine has no default route: name an Interface"),
    }
}

#[tokio::test]
async fn what_an_interface_cannot_do() {
    let interface = |options: &str| problem("interface_resolver", options, &[]);
    assert_eq!(interface(r#"{"Port": 0}"#), ".Port: must be a port from 1 to 65535");
    assert_eq!(
        interface(r#"{"Port": 1, "AvailablePorts": [{"Min": 1, "Max": 1}]}"#),
        ".Port: give Port or AvailablePorts, not both"
    );
    assert_eq!(
        interface(r#"{"Interface": ""}"#),
        ".Interface: must not be empty: leave it out for the default route"
    );
    let none = resolver("interface_resolver", r#"{"Interface": "nic7", "Family": "ipv6"}"#, &[]).unwrap();
    let error = none.resolve("a").await.unwrap_err().to_string();
    assert!(
        error.starts_with("network interface \"nic7\" has no address of IPv6; those that have one are: "),
        "{error}"
    );
    assert!(error.contains("lo"), "{error}");
}

#[test]
fn what_ec2_cannot_be_told() {
    for url in ["", "169.254.169.254", "ftp://x", "http://x?a=b"] {
        assert_eq!(
            problem("ec2_resolver", &format!(r#"{{"MetadataBaseUrl": "{url}"}}"#), &[]),
            ".MetadataBaseUrl: must be a URL like \"http://169.254.169.254\", without query and fragment"
        );
    }
    let many = vec![r#"{"Min": 1, "Max": 1}"#; 65].join(",");
    assert_eq!(
        problem("ec2_resolver", &format!(r#"{{"AvailablePorts": [{many}]}}"#), &[]),
        ".AvailablePorts: has 65 entries, at most 64 are allowed"
    );
}
