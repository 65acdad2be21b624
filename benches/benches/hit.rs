//! A hit, whole and in parts: `cargo bench --profile dist -p arngate-benches --bench hit`.

use std::hint::black_box;

use allocation_counter::measure;
use arngate_benches::hit::{Hall, contains};
use arngate_server::review::ReviewRequest;
use criterion::{Criterion, criterion_group, criterion_main};

fn hit(criterion: &mut Criterion) {
    let hall = Hall::open().unwrap();
    let mut turn = hall.known.iter().cycle();
    let mut next = || turn.next().unwrap();

    let known = next();
    let mut answer = None;
    let counted = measure(|| answer = Some(hall.answer(known)));
    println!(
        "webhook/hit: {} allocations, {} bytes, from a request in memory to its answer ({} bytes asked)",
        counted.count_total,
        counted.bytes_total,
        known.body.len()
    );
    let body =
        futures_util::FutureExt::now_or_never(http_body_util::BodyExt::collect(answer.unwrap().into_body())).unwrap().unwrap().to_bytes();
    assert!(contains(&body, &known.arn));

    criterion.bench_function("webhook/hit", |b| b.iter(|| hall.answer(next())));
    let realm = &hall.cluster.realm;
    let token = |body: &[u8]| ReviewRequest::parse(body).unwrap().token.into_owned();
    let tokens: Vec<_> = hall.known.iter().map(|known| token(&known.body)).collect();
    criterion.bench_function("review/parse", |b| b.iter(|| ReviewRequest::parse(black_box(&next().body)).is_ok()));
    let mut turn = tokens.iter().cycle();
    criterion.bench_function("identity_cache/digest", |b| {
        b.iter(|| hall.cluster.digester.digest(realm.generation(), turn.next().unwrap().as_bytes()));
    });
    let digests: Vec<_> = tokens.iter().map(|token| hall.cluster.digester.digest(realm.generation(), token.as_bytes())).collect();
    let now = hall.cluster.clock.now();
    let mut turn = digests.iter().cycle();
    criterion.bench_function("identity_cache/hit/4k", |b| b.iter(|| hall.cluster.identities.get(turn.next().unwrap(), now)));
    let found = match hall.cluster.identities.get(&digests[0], now) {
        arngate_server::identity_cache::Found::Fresh(found) => found,
        other => panic!("{other:?}"),
    };
    criterion.bench_function("verified_identity/identity", |b| b.iter(|| black_box(&found).identity().account_id().len()));
    let snapshot = hall.cluster.mappings.current();
    let identity = found.identity();
    criterion.bench_function("mapping/look_up/1k", |b| b.iter(|| snapshot.look_up(black_box(&identity), found.access_key_id())));
    criterion.bench_function("clock/now", |b| b.iter(|| hall.cluster.clock.now()));
}

criterion_group!(benches, hit);
criterion_main!(benches);
