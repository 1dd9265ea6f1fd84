use std::collections::BTreeMap;

use sortie_domain::matchmaking::entity::{Entity, EntityKind, Metadata, ticket};
use sortie_domain::matchmaking::model::{TicketSpec, whole_millis};

use super::table::{player_id, queue_id, region};

fn entity(id: &str, kind: EntityKind, entities: Vec<Entity>) -> Entity {
    Entity { id: id.into(), kind, entities, metadata: BTreeMap::new() }
}

fn account(id: &str) -> Entity {
    entity(id, EntityKind::Account, Vec::new())
}

fn queued(mut entity: Entity) -> Entity {
    entity.metadata.insert("queue_name".into(), Metadata::Text("q".into()));
    entity
}

fn noted(mut entity: Entity, name: &str, value: Metadata) -> Entity {
    entity.metadata.insert(name.into(), value);
    entity
}

fn refused(entity: &Entity) -> String {
    ticket(entity).unwrap_err().to_string()
}

fn sizes(spec: &TicketSpec) -> Vec<usize> {
    spec.parties.iter().map(|party| party.players.len()).collect()
}

#[test]
fn an_account_a_group_and_a_match_are_tickets() {
    let one = ticket(&queued(account("ann"))).unwrap();
    assert_eq!((one.queue.clone(), one.player_ids()), (queue_id("q"), vec![player_id("ann")]));
    let group = entity("party", EntityKind::Group, vec![account("ann"), account("bob")]);
    let party = ticket(&queued(group.clone())).unwrap();
    assert_eq!((sizes(&party), party.parties[0].id.as_deref()), (vec![2], Some("party")));
    let other = entity("other", EntityKind::Group, vec![account("cat")]);
    let both = ticket(&queued(entity("m", EntityKind::Match, vec![group, other]))).unwrap();
    assert_eq!(sizes(&both), [2, 1]);
    let accounts = entity("m", EntityKind::Match, vec![account("ann"), account("bob")]);
    assert_eq!(sizes(&ticket(&queued(accounts)).unwrap()), [2]);
}

#[test]
fn mixed_and_empty_trees_are_refused_with_a_clear_message() {
    let group = entity("inner", EntityKind::Group, vec![account("bob")]);
    let mixed = entity("mixed", EntityKind::Match, vec![account("ann"), group]);
    let text = refused(&queued(mixed));
    assert!(text.contains("\"mixed\"") && text.contains("only accounts or only groups"), "{text}");
    assert!(refused(&queued(entity("none", EntityKind::Group, Vec::new()))).contains("neither"));
    assert!(refused(&queued(entity("x", EntityKind::Other, Vec::new()))).contains("must be an account"));
    assert!(
        refused(&queued(entity("ann", EntityKind::Account, vec![account("bob")])))
            .contains("a single player")
    );
    assert!(refused(&account("ann")).contains("queue_name"));
    let mut deep = entity("g", EntityKind::Group, vec![account("ann")]);
    for _ in 0..10 {
        deep = entity("g", EntityKind::Group, vec![deep]);
    }
    assert!(refused(&queued(deep)).contains("nested deeper"));
    let crowd = (0..101).map(|n| account(&format!("p{n}"))).collect();
    assert!(refused(&queued(entity("crowd", EntityKind::Group, crowd))).contains("more than 100"));
    assert!(refused(&queued(account("né"))).contains("ASCII"));
}

#[test]
fn metadata_becomes_what_rules_look_at() {
    let json = |text: &str| Metadata::Json(text.into());
    let ann = noted(account("ann"), "ratings", json(r#"{"mmr":1500.5}"#));
    let ann = noted(ann, "latencies", json(r#"{"eu":31}"#));
    let ann = noted(ann, "blocked", json(r#"["bob"]"#));
    let ann = noted(noted(ann, "level", Metadata::Integer(7)), "role", Metadata::Text("tank".into()));
    let group = queued(entity("g", EntityKind::Group, vec![ann, account("cat")]));
    let group = noted(group, "properties", json(r#"{"map":"forest"}"#));
    let group = noted(group, "mode", Metadata::Text("ranked".into()));
    let group = noted(group, "latencies", json(r#"{"us":120,"eu":50}"#));
    let group = noted(group, "leader", Metadata::Text("cat".into()));
    let spec = ticket(&group).unwrap();
    assert_eq!(spec.properties.text(), Some(r#"{"map":"forest","mode":"ranked"}"#));
    assert_eq!(spec.leader, Some(player_id("cat")));
    assert_eq!(spec.worst_latencies(), BTreeMap::from([(region("eu"), 50)]));
    let ann = &spec.parties[0].players[0];
    assert_eq!(ann.ratings, BTreeMap::from([("mmr".into(), 1500.5), ("level".into(), 7.0)]));
    assert_eq!(ann.blocked, [player_id("bob")]);
    assert_eq!(ann.properties.text(), Some(r#"{"level":7,"role":"tank"}"#));
}

#[test]
fn fractions_of_latencies_are_rounded_up() {
    let measured = r#"{"a":20.4,"b":20,"c":20.0,"d":0.001,"e":4294967294.5,"f":-0.0}"#;
    let spec = ticket(&noted(queued(account("ann")), "latencies", Metadata::Json(measured.into()))).unwrap();
    let whole = spec.worst_latencies().into_values().collect::<Vec<_>>();
    assert_eq!(whole, [21, 20, 20, 1, u32::MAX, 0]);
}

#[test]
fn only_what_can_be_a_round_trip_is_one() {
    for (measured, whole) in [
        (0.0, Some(0)),
        (20.4, Some(21)),
        (20.000_001, Some(21)),
        (4_294_967_295.0, Some(u32::MAX)),
        (4_294_967_295.5, None),
        (-0.000_1, None),
        (f64::NAN, None),
        (f64::INFINITY, None),
        (f64::NEG_INFINITY, None),
    ] {
        assert_eq!(whole_millis(measured), whole, "{measured}");
    }
}

#[test]
fn metadata_that_makes_no_sense_is_refused() {
    let bad = [
        ("queue_name", Metadata::Integer(1)),
        ("latencies", Metadata::Json("[1]".into())),
        ("latencies", Metadata::Json(r#"{"eu":"fast"}"#.into())),
        ("latencies", Metadata::Json(r#"{"eu":-1}"#.into())),
        ("latencies", Metadata::Json(r#"{"eu":-0.5}"#.into())),
        ("latencies", Metadata::Json(r#"{"eu":4294967295.5}"#.into())),
        ("latencies", Metadata::Integer(1)),
        ("ratings", Metadata::Json(r#"{"mmr":"high"}"#.into())),
        ("blocked", Metadata::Json("{}".into())),
        ("blocked", Metadata::Json("[1]".into())),
        ("properties", Metadata::Json("nonsense".into())),
        ("leader", Metadata::Text("né".into())),
        ("other", Metadata::Json("nonsense".into())),
    ];
    for (name, value) in bad {
        let entity = noted(queued(account("ann")), name, value.clone());
        assert!(ticket(&entity).is_err(), "{name}: {value:?}");
    }
}
