//! How many tokens one core mints, compared with renetcode's own minter in the same run.
//!
//! `cargo bench -p sortie-tokens --bench mint`. Both draw their random bytes from the operating system inside the
//! measured step, so that they do the same work; `pure` is [`mint`] alone.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot mint has nothing to measure")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use renetcode::{ConnectToken, generate_random_bytes};
use sortie_tokens::{Dialect, Drawn, PrivateKey, TOKEN_BYTES, TokenSpec, USER_DATA_BYTES, mint};

const KEY: [u8; 32] = [7; 32];
const CREATED: u64 = 1_795_238_165;
const LIFE_SECONDS: u64 = 30;
/// Tokens per side and round in the comparison.
const ROUND_TOKENS: u32 = 20_000;
const ROUNDS: u32 = 5;

fn address() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 7], 40_000))
}

fn spec() -> TokenSpec {
    TokenSpec {
        protocol_id: 1,
        create_timestamp: CREATED,
        expire_timestamp: CREATED + LIFE_SECONDS,
        timeout_seconds: 5,
        client_id: 42,
        server_addresses: vec![address()],
        user_data: [3; USER_DATA_BYTES],
    }
}

fn ours(spec: &TokenSpec, key: &PrivateKey) -> [u8; TOKEN_BYTES] {
    let drawn = Drawn::from_random(&generate_random_bytes());
    mint(black_box(spec), &drawn, Dialect::Renet, key).unwrap()
}

fn renetcode(user_data: &[u8; USER_DATA_BYTES]) -> ConnectToken {
    let now = Duration::from_secs(CREATED);
    let addresses = vec![address()];
    ConnectToken::generate(now, 1, LIFE_SECONDS, 42, 5, addresses, Some(black_box(user_data)), &KEY).unwrap()
}

fn minters(criterion: &mut Criterion) {
    let (spec, key) = (spec(), PrivateKey::new(KEY));
    let mut group = criterion.benchmark_group("mint");
    let drawn = Drawn::from_random(&[5; Drawn::BYTES]);
    for dialect in Dialect::ALL {
        group.bench_function(format!("pure/{dialect}"), |bencher| {
            bencher.iter(|| mint(black_box(&spec), &drawn, dialect, &key).unwrap());
        });
    }
    group.bench_function("sortie", |bencher| bencher.iter(|| ours(&spec, &key)));
    group.bench_function("renetcode", |bencher| bencher.iter(|| renetcode(&spec.user_data)));
    group.finish();
}

/// Rounds alternate, so that a slower clock of the machine affects both sides.
fn ratio(_: &mut Criterion) {
    let (spec, key) = (spec(), PrivateKey::new(KEY));
    let (mut ours_took, mut renetcode_took) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        ours_took += time(|| {
            black_box(ours(&spec, &key));
        });
        renetcode_took += time(|| {
            black_box(renetcode(&spec.user_data));
        });
    }
    let rate = |took: Duration| f64::from(ROUNDS * ROUND_TOKENS) / took.as_secs_f64();
    let (ours, renetcode) = (rate(ours_took), rate(renetcode_took));
    println!("sortie {ours:.0}/s, renetcode {renetcode:.0}/s, ratio {:.2}", ours / renetcode);
}

fn time(mut step: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..ROUND_TOKENS {
        step();
    }
    start.elapsed()
}

criterion_group!(benches, minters, ratio);
criterion_main!(benches);
