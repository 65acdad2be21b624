//! Instruction counts, by callgrind: `cargo bench -p arngate-benches --bench instructions` (needs valgrind and gungraun-runner).
//!
//! Inputs are made before the count begins, and given back so that they are dropped after it has ended.

#![allow(missing_docs, unused_qualifications, reason = "the macros make public items without docs, and name all by path")]

use std::hint::black_box;

use arngate_benches::Case;
use arngate_core::TokenBuffer;
use gungraun::prelude::*;

type Input<B> = (Case, Box<B>);

fn with_buffer(case: Case) -> Input<TokenBuffer> {
    (case, Box::default())
}

fn with_room(case: Case) -> Input<[u8; 4096]> {
    (case, Box::new([0; 4096]))
}

#[library_benchmark]
#[bench::key_500(with_buffer(Case::key_500()))]
#[bench::session_1k8(with_buffer(Case::session_1k8()))]
fn token_decode((case, mut buffer): Input<TokenBuffer>) -> (bool, Input<TokenBuffer>) {
    (black_box(&case).decode(&mut buffer).is_ok(), (case, buffer))
}

#[library_benchmark]
#[bench::key_500(with_buffer(Case::key_500()))]
#[bench::session_1k8(with_buffer(Case::session_1k8()))]
fn request_check((case, mut buffer): Input<TokenBuffer>) -> (bool, Input<TokenBuffer>) {
    (black_box(&case).check(&mut buffer).is_ok(), (case, buffer))
}

#[library_benchmark]
#[bench::key_500(with_buffer(Case::key_500()))]
#[bench::session_1k8(with_buffer(Case::session_1k8()))]
fn sigv4_verify((case, mut buffer): Input<TokenBuffer>) -> (bool, Input<TokenBuffer>) {
    (black_box(&case).verify(&mut buffer) == Ok(Ok(())), (case, buffer))
}

#[library_benchmark]
#[bench::key_500(with_room(Case::key_500()))]
#[bench::session_1k8(with_room(Case::session_1k8()))]
fn floor_verify((case, mut room): Input<[u8; 4096]>) -> ([u8; 32], Input<[u8; 4096]>) {
    (black_box(&case).floor(&mut room), (case, room))
}

library_benchmark_group!(name = core, benchmarks = [token_decode, request_check, sigv4_verify, floor_verify]);
main!(library_benchmark_groups = core);
