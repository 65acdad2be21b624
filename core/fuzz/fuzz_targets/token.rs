//! Any bytes, as the text of a token and as the URL inside one.
#![no_main]

use arngate_core::{ClusterId, token};
use arngate_core_fuzz::check_token;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;

/// What the seeds were signed for and with.
const CLUSTER: &str = "prod";
const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fuzz_target!(|data: &[u8]| {
    let cluster_id = ClusterId::parse(CLUSTER).unwrap();
    check_token(data, None, cluster_id, SECRET);
    if !data.starts_with(token::PREFIX.as_bytes()) {
        let text = format!("{}{}", token::PREFIX, URL_SAFE_NO_PAD.encode(data));
        check_token(text.as_bytes(), None, cluster_id, SECRET);
    }
});
