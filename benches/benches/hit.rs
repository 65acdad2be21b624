//! A hit, whole and in parts, and the cache of identities: `cargo bench --profile dist -p arngate-benches --bench hit`.

use std::hint::black_box;
use std::sync::Arc;

use allocation_counter::measure;
use arngate_benches::hit::{Hall, contains, request};
use arngate_benches::identity::usual;
use arngate_server::bench::ReviewRequest;
use arngate_server::bench::{ApiVersion, Extra, User, write_allowed};
use arngate_server::identity_cache::{Digester, Found, IdentityCache, Settings};
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use prometheus_client::metrics::counter::Counter;

fn hit(criterion: &mut Criterion) {
    let hall = Hall::open().unwrap();
    let mut turn = hall.known.iter().cycle();
    let mut next = || turn.next().unwrap();

    let known = next();
    // What a thread makes once is made by now.
    drop(hall.answer(known));
    let mut answer = None;
    let counted = measure(|| answer = Some(hall.answer(known)));
    // What hyper and http make: the head of the question, and that of the answer.
    let heads = measure(|| {
        black_box(request(Bytes::new()));
        let mut answer = Response::new(());
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
        black_box(answer);
    });
    println!(
        "webhook/hit: {} allocations, {} bytes, beside the {} of the heads of question and answer ({} bytes asked)",
        counted.count_total - heads.count_total,
        counted.bytes_total - heads.bytes_total,
        heads.count_total,
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
        Found::Fresh(found) => found,
        other => panic!("{other:?}"),
    };
    criterion.bench_function("verified_identity/identity", |b| b.iter(|| black_box(&found).identity().account_id().len()));
    let snapshot = hall.cluster.mappings.current();
    let identity = found.identity();
    criterion.bench_function("mapping/look_up/1k", |b| b.iter(|| snapshot.look_up(black_box(&identity), found.access_key_id())));
    criterion.bench_function("clock/now", |b| b.iter(|| hall.cluster.clock.now()));

    let groups = ["team-0001", "developers"];
    let user = User {
        username: &"team-0001",
        uid: &"aws-iam-authenticator:123456789012:AROAIOSFODNN700000001",
        groups: groups.iter(),
        extra: Some(Extra { identity, access_key_id: found.access_key_id() }),
    };
    let mut out = Vec::with_capacity(2048);
    write_allowed(ApiVersion::V1, &user, &mut out);
    assert!(contains(&out, identity.arn()));
    criterion.bench_function("review/write", |b| {
        b.iter(|| {
            out.clear();
            write_allowed(ApiVersion::V1, black_box(&user), &mut out);
        });
    });
}

fn cache(criterion: &mut Criterion) {
    let (identity, now) = usual();
    let digester = Digester::new("bench").unwrap();
    for (name, count) in [("1k", 1_000_u32), ("1M", 1_000_000)] {
        // Without --bench it is `cargo test`, which only wants to see that it runs.
        let count = if std::env::args().any(|argument| argument == "--bench") { count } else { 1_000 };
        // No more than these fit, so that an insertion drops another one.
        let settings = Settings { max_bytes: count as usize * 400, ..Settings::default() };
        let cache = IdentityCache::new(settings, Counter::default());
        let identity = Arc::new(identity.clone());
        let digest = |number: u32| digester.digest(0, &number.to_be_bytes());
        (0..count).for_each(|number| cache.insert(digest(number), Arc::clone(&identity)));
        let all: Vec<_> = (0..count).map(|number| digest(number.wrapping_mul(2_654_435_761) % count)).collect();
        let known: Vec<_> = all.into_iter().filter(|digest| matches!(cache.get(digest, now), Found::Fresh(_))).collect();
        assert!(known.len() as u32 > count / 2, "{} of {count} are there", known.len());
        let mut turn = known.iter().cycle();
        criterion.bench_function(&format!("identity_cache/hit/{name}"), |b| b.iter(|| cache.get(turn.next().unwrap(), now)));
        let strangers: Vec<_> = (count..count.saturating_mul(2)).map(digest).collect();
        assert!(matches!(cache.get(&strangers[0], now), Found::Missing));
        let mut turn = strangers.iter().cycle();
        criterion.bench_function(&format!("identity_cache/miss/{name}"), |b| b.iter(|| cache.get(turn.next().unwrap(), now)));
        let mut turn = strangers.iter().cycle();
        criterion.bench_function(&format!("identity_cache/insert/{name}"), |b| {
            b.iter(|| cache.insert(*turn.next().unwrap(), Arc::clone(&identity)));
        });
    }
}

criterion_group!(benches, hit, cache);
criterion_main!(benches);
