//! Wall time, by criterion: `cargo bench --profile dist -p arngate-benches --bench time`. What others take for the same work stands beside ours.

mod peer;

use std::hint::black_box;

use arngate_benches::{Case, derive};
use arngate_core::TokenBuffer;
use criterion::{Criterion, criterion_group, criterion_main};

fn core(criterion: &mut Criterion) {
    for (name, case) in [("key_500", Case::key_500()), ("session_1k8", Case::session_1k8())] {
        let mut buffer = TokenBuffer::new();
        assert_eq!(case.verify(&mut buffer), Ok(Ok(())));
        criterion.bench_function(&format!("token/decode/{name}"), |b| b.iter(|| case.decode(black_box(&mut buffer)).is_ok()));
        criterion.bench_function(&format!("request/check/{name}"), |b| b.iter(|| case.check(black_box(&mut buffer)).is_ok()));
        criterion.bench_function(&format!("sigv4/verify/{name}"), |b| b.iter(|| case.verify(black_box(&mut buffer))));
        let mut room = [0; 4096];
        criterion.bench_function(&format!("floor/verify/{name}"), |b| b.iter(|| case.floor(black_box(&mut room))));
        let mut url = String::with_capacity(4096);
        criterion.bench_function(&format!("sigv4/presign/{name}"), |b| {
            b.iter(|| {
                url.clear();
                case.presign(black_box(&mut url))
            });
        });
        criterion.bench_function(&format!("sigv4/sign/{name}"), |b| b.iter(|| case.sign(black_box(&mut url))));
    }
    criterion.bench_function("sigv4/derive", |b| b.iter(derive));
}

fn peers(criterion: &mut Criterion) {
    for (name, case) in [("key_500", Case::key_500()), ("session_1k8", Case::session_1k8())] {
        let verifier = peer::Verifier::new(&case);
        assert_eq!(verifier.verify(Case::CLUSTER).as_deref(), Ok("arn:aws:iam::123456789012:user/bench"));
        assert!(verifier.verify("another.example.com").is_err(), "it does look at what was signed");
        criterion.bench_function(&format!("scratchstack/verify/{name}"), |b| b.iter(|| verifier.verify(black_box(Case::CLUSTER))));

        let signer = peer::Signer::new(&case);
        assert_eq!(case.verifies(&signer.sign()), Ok(Ok(())));
        criterion.bench_function(&format!("aws-sigv4/sign/{name}"), |b| b.iter(|| black_box(&signer).sign()));
    }
}

criterion_group!(benches, core, peers);
criterion_main!(benches);
