//! What benches alone may see. Nothing here is promised to anybody.

pub use crate::http::body::*;
pub use crate::http::tls::*;
pub use crate::review::*;
