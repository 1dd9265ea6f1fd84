//! How the matchmaker's cost grows with the number of waiting tickets: `cargo bench -p sortie-domain --bench
//! matchmaker`.
//!
//! `-- --tickets 1000000` measures one size, `--queue 1v1-skill` one queue, `--steady`, `--crowd`, `--rare`, `--kinds`
//! or `--hostile` one of the loads, `--kind not-blocked` one kind or one hostile input. They are in `crates/load`.
#![allow(clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "nothing here is public")]

use sortie_load::hostile::{self, Hostile};
use sortie_load::kinds::{self, Kind};
use sortie_load::steady::Plan;
use sortie_load::{Case, crowd, rare, steady};

const SIZES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let one = ["--steady", "--crowd", "--rare", "--kinds", "--hostile"].into_iter().any(has);
    let wanted = |load: &str| !one || has(load);
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let only: Option<u32> =
        value("--tickets").map(|text| text.parse().unwrap_or_else(|error| panic!("--tickets: {error}")));
    let sizes = only.map_or_else(|| SIZES.to_vec(), |only| vec![only]);
    let is_named = |name: &str| value("--kind").is_none_or(|wanted| wanted == name);
    if wanted("--kinds") && value("--queue").is_none() {
        for kind in Kind::ALL.into_iter().filter(|kind| is_named(kind.name())) {
            for size in &sizes {
                println!("{}", kinds::run(kind, *size).unwrap_or_else(|failure| panic!("{failure}")));
            }
        }
    }
    if wanted("--hostile") && value("--queue").is_none() {
        for hostile in Hostile::ALL.into_iter().filter(|hostile| is_named(hostile.name())) {
            for size in &sizes {
                println!("{}", hostile::run(hostile, *size).unwrap_or_else(|failure| panic!("{failure}")));
            }
        }
    }
    let case =
        value("--queue").map(|name| Case::named(name).unwrap_or_else(|| panic!("no queue is named {name}")));
    for case in case.map_or_else(|| Case::ALL.to_vec(), |case| vec![case]) {
        for size in sizes.iter().copied() {
            if wanted("--steady") {
                println!(
                    "{}",
                    steady::run(Plan::new(case, size)).unwrap_or_else(|failure| panic!("{failure}"))
                );
            }
            if wanted("--crowd") {
                println!("{}", crowd::run(case, size).unwrap_or_else(|failure| panic!("{failure}")));
            }
            if wanted("--rare") {
                println!("{}", rare::run(case, size).unwrap_or_else(|failure| panic!("{failure}")));
            }
        }
    }
}
