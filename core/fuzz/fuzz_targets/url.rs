//! A token of a published client, changed in ways that matter to a parser of URLs, and perhaps signed anew.
#![no_main]

use arbitrary::Arbitrary;
use arngate_core::endpoint::Fips;
use arngate_core::limits::URL_MAX_BYTES;
use arngate_core::sigv4::{SigningKey, verify};
use arngate_core::{ClusterId, Partition, Policy, PresignedUrl, StsHost, StsHosts, StsRequest, Token, TokenBuffer, token};
use arngate_core_fuzz::claim::Claim;
use arngate_core_fuzz::seed::{SEEDS, Seed};
use arngate_core_fuzz::{check_date, check_token, slow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    seed: u8,
    cluster_id: Option<&'a str>,
    own_region: Option<&'a str>,
    mutations: Vec<Mutation<'a>>,
    is_signed_anew: bool,
}

#[derive(Arbitrary, Debug)]
enum Mutation<'a> {
    /// Another access key id, of any length around what is taken.
    AccessKeyId {
        length: u8,
        letter: u8,
    },
    /// Another pair at the end: a known name, any value.
    Append {
        name: u8,
        value: &'a [u8],
    },
    /// Another instant, in date and scope: of those around which calendars go wrong.
    Date {
        century: u8,
        year: u8,
        month: u8,
        day: u8,
        hour: u8,
        second: u8,
    },
    Drop {
        pair: u8,
    },
    /// `&&`
    EmptyPair {
        at: u8,
    },
    /// A byte of a name or a value as `%` and hex digits: the same request.
    Escape {
        pair: u8,
        in_name: bool,
        at: u16,
        is_lower: bool,
    },
    /// The digits of an escape in the other case: the same request.
    HexCase {
        pair: u8,
        at: u16,
    },
    Host {
        partition: u8,
        region: u8,
        is_fips: bool,
        is_dual_stack: bool,
    },
    /// Bytes anywhere in the URL.
    Insert {
        at: u16,
        bytes: &'a [u8],
    },
    /// The case of letters of a name.
    Recase {
        pair: u8,
        mask: u32,
    },
    Remove {
        at: u16,
        length: u8,
    },
    Repeat {
        pair: u8,
        at: u8,
    },
    SchemeCase {
        mask: u8,
    },
    SetByte {
        at: u16,
        byte: u8,
    },
    SetValue {
        pair: u8,
        value: &'a [u8],
    },
    Swap {
        a: u8,
        b: u8,
    },
    /// An escape, as the byte that it stands for.
    Unescape {
        pair: u8,
        at: u16,
    },
}

impl Mutation<'_> {
    /// Whether it leaves what the URL says as it was, so that its signature stays good.
    fn is_respelling(&self) -> bool {
        matches!(self, Self::EmptyPair { .. } | Self::Escape { .. } | Self::HexCase { .. } | Self::SchemeCase { .. } | Self::Swap { .. })
    }
}

/// A URL in pieces, none of them decoded.
struct Url {
    scheme: Vec<u8>,
    host: Vec<u8>,
    pairs: Vec<Vec<u8>>,
}

const NAMES: [&str; 10] = [
    "Action",
    "Version",
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires%00",
];
const DATE: &[u8] = b"X-Amz-Date=";
const CREDENTIAL: &[u8] = b"X-Amz-Credential=";

fn pick(index: impl Into<usize>, length: usize) -> Option<usize> {
    index.into().checked_rem(length)
}

impl Url {
    fn of(seed: &Seed) -> Self {
        let (host, query) = seed.url["https://".len()..].split_once("/?").unwrap();
        let pairs = query.split('&').map(|pair| pair.as_bytes().to_vec()).collect();
        Self { scheme: b"https://".to_vec(), host: host.into(), pairs }
    }

    fn join(&self) -> Vec<u8> {
        [&self.scheme[..], &self.host, b"/?", &self.pairs.join(&b'&')].concat()
    }

    fn pair(&mut self, index: u8) -> Option<&mut Vec<u8>> {
        let index = pick(index, self.pairs.len())?;
        self.pairs.get_mut(index)
    }

    /// Sets a segment of the credentials that are spelled as usual.
    fn set_credential(&mut self, segment: usize, text: &str) -> Option<()> {
        for pair in self.pairs.iter_mut() {
            let Some(credential) = pair.strip_prefix(CREDENTIAL) else { continue };
            let credential = String::from_utf8_lossy(credential).into_owned();
            let mut segments: Vec<&str> = credential.split("%2F").collect();
            *segments.get_mut(segment)? = text;
            *pair = [CREDENTIAL, segments.join("%2F").as_bytes()].concat();
        }
        Some(())
    }

    /// Changes the pieces. What acts on bytes is left for [`mutate_bytes`].
    fn mutate(&mut self, mutation: &Mutation<'_>) -> Option<()> {
        match *mutation {
            Mutation::AccessKeyId { length, letter } => {
                let id = String::from(char::from(letter % 0x5E + 0x21)).repeat(usize::from(length));
                self.set_credential(0, &id)?;
            }
            Mutation::Append { name, value } => {
                self.pairs.push([NAMES[pick(name, NAMES.len())?].as_bytes(), b"=", value].concat());
            }
            Mutation::Date { century, year, month, day, hour, second } => {
                let of = |choices: &[u8], index: u8| choices[usize::from(index) % choices.len()];
                let (century, year) = (of(&[20, 0, 1, 15, 16, 19, 21, 99], century), of(&[26, 0, 1, 4, 70, 99], year));
                let (month, day) = (month % 14, of(&[1, 0, 28, 29, 30, 31, 32], day));
                let (hour, second) = (of(&[12, 0, 23, 24], hour), of(&[30, 0, 59, 60], second));
                let day = format!("{century:02}{year:02}{month:02}{day:02}");
                let date = format!("{day}T{hour:02}{second:02}{second:02}Z");
                check_date(&date);
                for pair in self.pairs.iter_mut().filter(|pair| pair.starts_with(DATE)) {
                    *pair = [DATE, date.as_bytes()].concat();
                }
                self.set_credential(1, &day)?;
            }
            Mutation::Drop { pair } => drop(self.pairs.remove(pick(pair, self.pairs.len())?)),
            Mutation::EmptyPair { at } => self.pairs.insert(pick(at, self.pairs.len() + 1)?, Vec::new()),
            Mutation::Escape { pair, in_name, at, is_lower } => escape(self.pair(pair)?, in_name, at, is_lower)?,
            Mutation::Host { partition, region, is_fips, is_dual_stack } => {
                let partition = Partition::ALL[pick(partition, Partition::ALL.len())?];
                let regions = partition.known_regions();
                let region = regions[pick(region, regions.len())?];
                let fips = if is_fips { Fips::Yes } else { Fips::No };
                let host = if is_dual_stack { StsHost::dual_stack } else { StsHost::regional };
                self.host = host(partition, region, fips).ok()?.to_string().into_bytes();
                self.set_credential(2, region)?;
            }
            Mutation::Recase { pair, mask } => {
                let letters = self.pair(pair)?.iter_mut().take_while(|byte| **byte != b'=');
                recase(letters, mask);
            }
            Mutation::Repeat { pair, at } => {
                let copy = self.pair(pair)?.clone();
                self.pairs.insert(pick(at, self.pairs.len() + 1)?, copy);
            }
            Mutation::SchemeCase { mask } => recase(self.scheme.iter_mut(), mask.into()),
            Mutation::SetValue { pair, value } => {
                let pair = self.pair(pair)?;
                let name = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
                pair.truncate(name);
                pair.push(b'=');
                pair.extend(value);
            }
            Mutation::Swap { a, b } => {
                let length = self.pairs.len();
                self.pairs.swap(pick(a, length)?, pick(b, length)?);
            }
            Mutation::HexCase { pair, at } => {
                let pair = self.pair(pair)?;
                let at = find_escape(pair, at)?;
                recase(pair.get_mut(at + 1..at + 3)?.iter_mut(), u32::MAX);
            }
            Mutation::Unescape { pair, at } => {
                let pair = self.pair(pair)?;
                let at = find_escape(pair, at)?;
                let hex = std::str::from_utf8(pair.get(at + 1..at + 3)?).ok()?;
                let byte = u8::from_str_radix(hex, 16).ok()?;
                pair.splice(at..at + 3, [byte]);
            }
            Mutation::Insert { .. } | Mutation::Remove { .. } | Mutation::SetByte { .. } => {}
        }
        Some(())
    }
}

/// Where one of the escapes is.
fn find_escape(pair: &[u8], index: u16) -> Option<usize> {
    let escapes: Vec<usize> = (0..pair.len()).filter(|at| pair[*at] == b'%').collect();
    escapes.get(pick(index, escapes.len())?).copied()
}

fn recase<'b>(letters: impl Iterator<Item = &'b mut u8>, mask: u32) {
    for (bit, letter) in letters.enumerate() {
        if letter.is_ascii_alphabetic() && mask.checked_shr(bit as u32).is_some_and(|mask| mask & 1 == 1) {
            *letter ^= 0x20;
        }
    }
}

/// Writes one byte of a name or a value as an escape.
fn escape(pair: &mut Vec<u8>, in_name: bool, at: u16, is_lower: bool) -> Option<()> {
    let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    let (start, end) = if in_name { (0, equals) } else { (equals + 1, pair.len()) };
    let at = start + pick(at, end.checked_sub(start)?)?;
    if pair[at.saturating_sub(2)..=at].contains(&b'%') {
        return None;
    }
    let byte = if pair[at] == b'+' { b' ' } else { pair[at] };
    let escape = if is_lower { format!("%{byte:02x}") } else { format!("%{byte:02X}") };
    pair.splice(at..=at, escape.bytes());
    Some(())
}

fn mutate_bytes(url: &mut Vec<u8>, mutation: &Mutation<'_>) -> Option<()> {
    match *mutation {
        Mutation::Insert { at, bytes } => {
            let at = pick(at, url.len() + 1)?;
            url.splice(at..at, bytes.iter().copied());
        }
        Mutation::Remove { at, length } => {
            let at = pick(at, url.len())?;
            url.drain(at..url.len().min(at + usize::from(length)));
        }
        Mutation::SetByte { at, byte } => {
            let at = pick(at, url.len())?;
            url[at] = byte;
        }
        _ => {}
    }
    Some(())
}

fn encode(url: &[u8]) -> String {
    format!("{}{}", token::PREFIX, URL_SAFE_NO_PAD.encode(url))
}

/// Puts the right signature in, where the URL is one whose signature can be seen.
fn sign(url: &[u8], own_region: Option<&str>, cluster_id: &str, secret: &[u8]) -> Option<String> {
    let claim = Partition::ALL.into_iter().find_map(|partition| Claim::of(url, partition, own_region).ok())?;
    let url = std::str::from_utf8(url).unwrap();
    let (_, query) = url.split_once("/?").unwrap();
    let canonical = slow::canonical_request(&claim.host, query, cluster_id);
    let signature = slow::signature(secret, &claim.date, &claim.region, &canonical);
    (url.matches(&claim.signature).count() == 1).then(|| url.replace(&claim.signature, &signature))
}

fn is_authentic(url: &[u8], partition: Partition, own_region: Option<&str>, cluster_id: ClusterId<'_>, secret: &[u8]) -> bool {
    let text = encode(url);
    let mut buffer = TokenBuffer::new();
    let hosts = StsHosts::new(partition).with_own_region(own_region);
    let url = PresignedUrl::parse(Token::decode(text.as_bytes(), &mut buffer).unwrap(), &hosts).unwrap();
    let key = SigningKey::derive(secret, url.signed_at().day(), url.host().region());
    let now = url.signed_at().unix();
    verify(&StsRequest::check(url, &Policy::new(cluster_id), now).unwrap(), &key).is_ok()
}

fuzz_target!(|input: Input<'_>| {
    let seed = &SEEDS[usize::from(input.seed) % SEEDS.len()];
    let secret = seed.secret.as_bytes();
    let seeds_cluster = ClusterId::parse(seed.cluster_id).unwrap();
    let cluster_id = input.cluster_id.and_then(|id| ClusterId::parse(id).ok()).unwrap_or(seeds_cluster);
    // The URL Standard reads labels that begin with xn-- as Punycode and refuses most; no region of AWS is one, and an operator who says so is
    // believed.
    let own_region = input.own_region.filter(|region| !region.starts_with("xn--"));

    let mut url = Url::of(seed);
    for mutation in &input.mutations {
        // One that does not fit here is no harm.
        let _ = url.mutate(mutation);
    }
    let mut bytes = url.join();
    for mutation in &input.mutations {
        let _ = mutate_bytes(&mut bytes, mutation);
    }
    check_token(encode(&bytes).as_bytes(), own_region, cluster_id, secret);

    if input.mutations.iter().all(Mutation::is_respelling) && bytes.len() <= URL_MAX_BYTES {
        let partition = Partition::from_name(seed.partition).unwrap();
        assert!(is_authentic(&bytes, partition, own_region, seeds_cluster, secret), "another spelling, another answer");
    }
    if input.is_signed_anew
        && let Some(signed) = sign(&bytes, own_region, cluster_id.as_str(), secret)
    {
        check_token(encode(signed.as_bytes()).as_bytes(), own_region, cluster_id, secret);
    }
});
