//! Instruction counts, by callgrind: `cargo bench -p arngate-benches --bench instructions` (needs valgrind and gungraun-runner).

#![allow(missing_docs, unused_qualifications, reason = "the macros make public items without docs, and name all by path")]

use std::hint::black_box;

use arngate_benches::Case;
use arngate_core::TokenBuffer;
use gungraun::prelude::*;

#[library_benchmark]
#[bench::key_500(Case::key_500())]
#[bench::session_1k8(Case::session_1k8())]
fn token_decode(case: Case) -> bool {
    black_box(case).decode(&mut TokenBuffer::new()).is_ok()
}

#[library_benchmark]
#[bench::key_500(Case::key_500())]
#[bench::session_1k8(Case::session_1k8())]
fn request_check(case: Case) -> bool {
    black_box(case).check(&mut TokenBuffer::new()).is_ok()
}

#[library_benchmark]
#[bench::key_500(Case::key_500())]
#[bench::session_1k8(Case::session_1k8())]
fn sigv4_verify(case: Case) -> bool {
    black_box(case).verify(&mut TokenBuffer::new()) == Ok(Ok(()))
}

#[library_benchmark]
#[bench::key_500(Case::key_500())]
#[bench::session_1k8(Case::session_1k8())]
fn floor_verify(case: Case) -> [u8; 32] {
    black_box(case).floor(&mut [0; 4096])
}

library_benchmark_group!(name = core, benchmarks = [token_decode, request_check, sigv4_verify, floor_verify]);
main!(library_benchmark_groups = core);
