//! List, then watch: what there is in a collection, and then every change to it, for as long as the server runs.
//!
//! Whoever watches ([`Sink`]) hears of whole lists and of single changes, and is told to publish once no more is on its way. A list replaces everything, so
//! that what was deleted while nobody watched is gone too. After a watch that ended well the next one goes on where it ended; after all else (410 Gone, a
//! refusal, a watch that ends at once without a word) there is a list again, so that changes arrive even where watching does not work.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout_at};

use crate::connection::Connection;
use crate::pace::{GOOD_LIFE, Pace};
use crate::request::Lines;
use crate::trouble::Trouble;

/// How long a watch is to last. Short enough that a peer which vanished without a word is not listened to for long.
const WATCH_SECS: std::ops::Range<u32> = 120..180;

/// How much longer than asked a watch may last before it counts as dead.
const WATCH_GRACE: Duration = Duration::from_secs(15);

/// How long to wait for more before what changed is published: changes made together are one.
const SETTLE: Duration = Duration::from_millis(100);

/// How long changes that never come to rest are waited out.
const SETTLE_AT_MOST: Duration = Duration::from_secs(1);

/// Objects to a page of a list.
const PAGE: u32 = 250;

/// What is known of every object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) generation: i64,
}

/// An object of a collection.
pub(crate) trait Object: DeserializeOwned + Send {
    fn metadata(&self) -> &Metadata;
}

/// What is watched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Collection {
    /// Its path.
    pub(crate) path: &'static str,
    /// Which of its objects; empty for all.
    pub(crate) field_selector: &'static str,
}

/// Who watches.
pub(crate) trait Sink: Send {
    type Object: Object;

    /// These are all that there are.
    fn replace(&mut self, objects: Vec<Self::Object>);

    /// This one is new or changed; whether that changes anything for us.
    fn put(&mut self, object: Self::Object) -> bool;

    /// This one is gone; whether that changes anything for us.
    fn remove(&mut self, name: &str) -> bool;

    /// Puts in force what was heard; it is not called where nothing changed.
    fn publish(&mut self) -> impl Future<Output = ()> + Send;

    /// It could not be listed or watched.
    fn failed(&mut self, trouble: &Trouble);
}

/// How a round ended.
enum End {
    /// As watches end. Whether anything was heard on it.
    Closed {
        heard: bool,
    },
    Trouble(Trouble),
}

/// Follows a collection for ever.
pub(crate) async fn follow<S: Sink>(connection: &Connection, collection: Collection, sink: &mut S) {
    let mut pace = Pace::new();
    let mut version = None;
    loop {
        let mut opened = None;
        let end = round(connection, collection, &mut version, &mut opened, sink).await;
        let lived = opened.map_or(Duration::ZERO, |opened: Instant| opened.elapsed());
        let is_good_life = lived >= GOOD_LIFE;
        let well = match &end {
            End::Closed { heard } => {
                // A watch that ends at once may be one that never tells anything.
                version = version.filter(|_| *heard || is_good_life);
                true
            }
            End::Trouble(Trouble::Gone) => {
                version = None;
                true
            }
            // A connection that broke under a good watch: what has changed meanwhile is told to who goes on where he was.
            End::Trouble(Trouble::Unreachable(_) | Trouble::Slow(_)) if is_good_life => false,
            End::Trouble(trouble) => {
                // What follows is a list, so that it is told too when all is well again.
                version = None;
                sink.failed(trouble);
                false
            }
        };
        sleep(pace.after(well, lived)).await;
    }
}

/// A list, unless it is known what there was, and a watch until it ends, with the instant at which it was `opened`.
async fn round<S: Sink>(
    connection: &Connection,
    collection: Collection,
    version: &mut Option<String>,
    opened: &mut Option<Instant>,
    sink: &mut S,
) -> End {
    let from = match version {
        Some(version) => version.clone(),
        None => match list(connection, collection).await {
            Ok((objects, listed)) => {
                sink.replace(objects);
                sink.publish().await;
                version.insert(listed).clone()
            }
            Err(trouble) => return End::Trouble(trouble),
        },
    };
    let secs = fastrand::u32(WATCH_SECS);
    let path =
        format!("{}&watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={secs}", collection.query(), escaped(&from));
    let ends = Instant::now() + Duration::from_secs(secs.into()) + WATCH_GRACE;
    let heard = match connection.open(&path).await {
        Ok(lines) => {
            *opened = Some(Instant::now());
            listen(lines, ends, version, sink).await
        }
        Err(trouble) => Err(trouble),
    };
    match heard {
        Ok(heard) => End::Closed { heard },
        Err(trouble) => End::Trouble(trouble),
    }
}

/// Listens until a watch ends; whether anything was heard on it.
async fn listen<S: Sink>(mut lines: Lines<'_>, ends: Instant, version: &mut Option<String>, sink: &mut S) -> Result<bool, Trouble> {
    let mut heard = false;
    // When to publish, and when to publish at the latest.
    let mut due: Option<(Instant, Instant)> = None;
    let ended = loop {
        let until = due.map_or(ends, |(due, latest)| due.min(latest));
        let line = match timeout_at(until, lines.next()).await {
            Ok(line) => line,
            Err(_) if due.take().is_some() => {
                sink.publish().await;
                continue;
            }
            Err(_) => break Err(Trouble::Slow(WATCH_GRACE)),
        };
        match line.and_then(|line| line.map(|line| event(&line, version, sink)).transpose()) {
            Ok(Some(changed)) => {
                heard = true;
                if changed {
                    let now = Instant::now();
                    due = Some((now + SETTLE, due.map_or(now + SETTLE_AT_MOST, |(_, latest)| latest)));
                }
            }
            Ok(None) => break Ok(heard),
            Err(trouble) => break Err(trouble),
        }
    };
    // The end must not swallow what came before it.
    if due.is_some() {
        sink.publish().await;
    }
    ended
}

/// A line of a watch.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Kind {
    Added,
    Bookmark,
    Deleted,
    Error,
    Modified,
}

/// What every object has: enough to know where we are.
#[derive(Deserialize)]
struct Bare {
    metadata: Metadata,
}

/// Heeds one line; whether it told of a change.
fn event<S: Sink>(line: &[u8], version: &mut Option<String>, sink: &mut S) -> Result<bool, Trouble> {
    let Line { kind, object } = serde_json::from_slice(line).map_err(|_| Trouble::Malformed)?;
    let text = object.get();
    let read = || serde_json::from_str::<S::Object>(text).map_err(|_| Trouble::Malformed);
    let (known, changed) = match kind {
        Kind::Added | Kind::Modified => {
            let object = read()?;
            let known = object.metadata().resource_version.clone();
            (known, sink.put(object))
        }
        Kind::Bookmark | Kind::Deleted => {
            let Bare { metadata } = serde_json::from_str(text).map_err(|_| Trouble::Malformed)?;
            let changed = matches!(kind, Kind::Deleted) && sink.remove(&metadata.name);
            (metadata.resource_version, changed)
        }
        Kind::Error => {
            #[derive(Deserialize)]
            struct Status {
                code: Option<u16>,
            }
            let code = serde_json::from_str::<Status>(text).ok().and_then(|status| status.code);
            let status = code.and_then(|code| http::StatusCode::from_u16(code).ok()).ok_or(Trouble::Malformed)?;
            return Err(Trouble::refused(status, text.as_bytes()));
        }
    };
    if !known.is_empty() {
        *version = Some(known);
    }
    Ok(changed)
}

/// A page of a list.
#[derive(Deserialize)]
struct Page<T> {
    metadata: PageMetadata,
    /// Go writes an empty list as null, where nobody took care.
    items: Option<Vec<T>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMetadata {
    resource_version: String,
    r#continue: String,
}

/// All objects, and as of when.
async fn list<T: Object>(connection: &Connection, collection: Collection) -> Result<(Vec<T>, String), Trouble> {
    let mut objects = Vec::new();
    let (mut size, mut next) = (PAGE, String::new());
    loop {
        let path = format!("{}&limit={size}&continue={}", collection.query(), escaped(&next));
        let body = match connection.ask(Method::GET, &path, None).await {
            Ok(body) => body,
            // Large objects; fewer of them will do.
            Err(Trouble::TooLarge(_)) if size > 1 => {
                size = size.div_ceil(8);
                continue;
            }
            Err(trouble) => return Err(trouble),
        };
        let page: Page<T> = serde_json::from_slice(&body).map_err(|_| Trouble::Malformed)?;
        objects.extend(page.items.unwrap_or_default());
        if page.metadata.r#continue.is_empty() {
            return Ok((objects, page.metadata.resource_version));
        }
        next = page.metadata.r#continue;
    }
}

impl Collection {
    /// Path and query, to which more of the query may be added.
    fn query(&self) -> String {
        format!("{}?fieldSelector={}", self.path, escaped(self.field_selector))
    }
}

/// A value within a query.
pub(crate) fn escaped(value: &str) -> String {
    use std::fmt::Write as _;
    value.bytes().fold(String::with_capacity(value.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;
    use crate::request::ANSWER_MAX_BYTES;
    use crate::scripted::{Asked, Question, api_server};

    const COLLECTION: Collection = Collection { path: "/api/v1/things", field_selector: "metadata.name=one" };

    #[derive(Deserialize)]
    struct Thing {
        metadata: Metadata,
        value: u32,
    }

    impl Object for Thing {
        fn metadata(&self) -> &Metadata {
            &self.metadata
        }
    }

    /// Writes down what it hears.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<String>>>);

    impl Heard {
        fn note(&self, what: impl Into<String>) {
            self.0.lock().unwrap().push(what.into());
        }

        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl Sink for Heard {
        type Object = Thing;

        fn replace(&mut self, objects: Vec<Thing>) {
            let all: Vec<_> = objects.iter().map(|thing| format!("{}={}", thing.metadata.name, thing.value)).collect();
            self.note(format!("all: {}", all.join(" ")));
        }

        fn put(&mut self, thing: Thing) -> bool {
            self.note(format!("{}={}", thing.metadata.name, thing.value));
            true
        }

        fn remove(&mut self, name: &str) -> bool {
            self.note(format!("{name} is gone"));
            true
        }

        async fn publish(&mut self) {
            self.note("published");
        }

        fn failed(&mut self, trouble: &Trouble) {
            self.note(format!("failed: {trouble}"));
        }
    }

    fn thing(name: &str, version: u32, value: u32) -> Value {
        json!({"metadata": {"name": name, "resourceVersion": version.to_string()}, "value": value})
    }

    fn all(version: u32, things: &[Value]) -> Value {
        json!({"kind": "List", "metadata": {"resourceVersion": version.to_string()}, "items": things})
    }

    fn status(code: u16, message: &str) -> Value {
        json!({"kind": "Status", "status": "Failure", "message": message, "code": code})
    }

    fn begin() -> (Heard, Asked) {
        let heard = Heard::default();
        let (connection, asked) = api_server();
        let mut sink = heard.clone();
        tokio::spawn(async move { follow(&connection, COLLECTION, &mut sink).await });
        (heard, asked)
    }

    async fn list_of(asked: &mut Asked, version: u32, things: &[Value]) {
        let question = asked.next().await;
        assert!(!question.is_watch(), "{}", question.path);
        question.answer(200, &all(version, things)).await;
    }

    async fn watch_from(asked: &mut Asked, version: &str) -> Question {
        let question = asked.next().await;
        assert!(question.is_watch(), "{}", question.path);
        assert_eq!(question.query("resourceVersion"), Some(version));
        question
    }

    #[tokio::test(start_paused = true)]
    async fn lists_then_watches_and_publishes_what_settles_as_one() {
        let (heard, mut asked) = begin();
        let question = asked.next().await;
        assert_eq!(question.path, "/api/v1/things?fieldSelector=metadata.name%3Done&limit=250&continue=");
        question.answer(200, &all(7, &[thing("one", 5, 1)])).await;
        let mut watch = watch_from(&mut asked, "7").await.stream();
        assert_eq!(heard.take(), ["all: one=1", "published"]);
        watch.say("MODIFIED", thing("one", 8, 2)).await;
        watch.say("ADDED", thing("two", 9, 1)).await;
        watch.say("DELETED", thing("two", 10, 1)).await;
        sleep(SETTLE * 2).await;
        assert_eq!(heard.take(), ["one=2", "two=1", "two is gone", "published"]);
        watch.say("BOOKMARK", thing("", 20, 0)).await;
        sleep(GOOD_LIFE).await;
        assert_eq!(heard.take(), [""; 0], "a bookmark changes nothing");
        // The next one goes on where this one ended, and at once.
        let before = Instant::now();
        drop(watch);
        let _watch = watch_from(&mut asked, "20").await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        assert_eq!(heard.take(), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_watch_does_not_swallow_what_came_before_it() {
        let (heard, mut asked) = begin();
        list_of(&mut asked, 1, &[]).await;
        let mut watch = watch_from(&mut asked, "1").await.stream();
        watch.say("ADDED", thing("one", 2, 1)).await;
        drop(watch);
        let _watch = watch_from(&mut asked, "2").await;
        assert_eq!(heard.take(), ["all: ", "published", "one=1", "published"]);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_that_never_settle_are_published_now_and_then() {
        let (heard, mut asked) = begin();
        list_of(&mut asked, 1, &[]).await;
        let mut watch = watch_from(&mut asked, "1").await.stream();
        for version in 2..32 {
            watch.say("MODIFIED", thing("one", version, version)).await;
            sleep(SETTLE / 2).await;
        }
        let heard = heard.take();
        assert_eq!(heard.iter().filter(|what| *what == "published").count(), 2, "the list, and a second later: {heard:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_deleted_while_nobody_watched_is_gone() {
        let (heard, mut asked) = begin();
        list_of(&mut asked, 1, &[thing("one", 1, 1)]).await;
        let watch = watch_from(&mut asked, "1").await.stream();
        sleep(GOOD_LIFE).await;
        watch.break_off();
        // It is told to who goes on where he was …
        let mut watch = watch_from(&mut asked, "1").await.stream();
        watch.say("DELETED", thing("one", 4, 1)).await;
        sleep(SETTLE * 2).await;
        assert_eq!(heard.take(), ["all: one=1", "published", "one is gone", "published"]);
        // … or, where too much has happened, seen in the list.
        sleep(GOOD_LIFE).await;
        watch.say("ERROR", status(410, "too old resource version: 4 (9)")).await;
        list_of(&mut asked, 9, &[thing("two", 9, 2)]).await;
        let _watch = watch_from(&mut asked, "9").await;
        assert_eq!(heard.take(), ["all: two=2", "published"], "410 is no failure");
    }

    #[tokio::test(start_paused = true)]
    async fn gone_for_ever_is_asked_ever_less_often() {
        let (heard, mut asked) = begin();
        let began = Instant::now();
        for round in 0..20 {
            list_of(&mut asked, 1, &[]).await;
            let question = watch_from(&mut asked, "1").await;
            if round % 2 == 0 {
                question.answer(410, &status(410, "Expired")).await;
            } else {
                question.stream().say("ERROR", status(410, "Expired")).await;
            }
        }
        list_of(&mut asked, 1, &[]).await;
        assert!(began.elapsed() > Duration::from_secs(60), "{:?}", began.elapsed());
        assert!(heard.take().iter().all(|what| !what.starts_with("failed")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_ends_at_once_for_ever_is_no_tight_loop_and_changes_still_come() {
        let (heard, mut asked) = begin();
        let began = Instant::now();
        for version in 1..20 {
            list_of(&mut asked, version, &[thing("one", version, version)]).await;
            drop(watch_from(&mut asked, &version.to_string()).await.stream());
        }
        list_of(&mut asked, 20, &[]).await;
        assert!(began.elapsed() > Duration::from_secs(60), "{:?}", began.elapsed());
        sleep(Duration::from_millis(1)).await;
        let heard = heard.take();
        assert!(heard.contains(&"all: one=19".to_owned()) && heard.contains(&"all: ".to_owned()), "{heard:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn denied_is_told_and_asked_again_ever_less_often() {
        let (heard, mut asked) = begin();
        let began = Instant::now();
        for _ in 0..10 {
            asked.next().await.answer(403, &status(403, "things is forbidden: \u{1b}[31mno")).await;
        }
        assert!(began.elapsed() > Duration::from_secs(30), "{:?}", began.elapsed());
        let told = heard.take();
        assert_eq!(told[0], r"failed: the API server answered 403: things is forbidden: \u{1b}[31mno");
        // Where lists are permitted and watches are not, lists it is.
        list_of(&mut asked, 1, &[thing("one", 1, 1)]).await;
        watch_from(&mut asked, "1").await.answer(403, &status(403, "no watch")).await;
        list_of(&mut asked, 2, &[thing("one", 2, 2)]).await;
        let _watch = watch_from(&mut asked, "2").await;
        let heard = heard.take();
        assert_eq!(
            heard[heard.len() - 5..],
            ["all: one=1", "published", "failed: the API server answered 403: no watch", "all: one=2", "published"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_is_away_at_first_is_found_when_it_comes() {
        let (heard, mut asked) = begin();
        for _ in 0..4 {
            asked.next().await.refuse();
        }
        list_of(&mut asked, 1, &[thing("one", 1, 1)]).await;
        let _watch = watch_from(&mut asked, "1").await;
        let heard = heard.take();
        assert_eq!(heard.iter().filter(|what| *what == "failed: the API server cannot be reached: connection refused").count(), 4);
        assert_eq!(heard[4..], ["all: one=1", "published"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_says_nothing_is_not_waited_for_for_ever() {
        let (heard, mut asked) = begin();
        // Held, and not answered.
        let _silent = asked.next().await;
        list_of(&mut asked, 1, &[]).await;
        assert_eq!(heard.take()[0], "failed: the API server did not answer within 30 s");
        // A watch whose peer has vanished: asked for so long, and no longer.
        let question = watch_from(&mut asked, "1").await;
        let secs: u64 = question.query("timeoutSeconds").unwrap().parse().unwrap();
        let _silent = question.stream();
        let before = Instant::now();
        let _watch = watch_from(&mut asked, "1").await;
        let waited = before.elapsed();
        assert!((secs + 15..secs + 17).contains(&waited.as_secs()), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_comes_in_pages_which_shrink_where_objects_are_large() {
        let (heard, mut asked) = begin();
        let large = json!({"metadata": {}, "items": [{"metadata": {"name": "x".repeat(ANSWER_MAX_BYTES)}, "value": 1}]});
        asked.next().await.answer(200, &large).await;
        let question = asked.next().await;
        assert_eq!((question.query("limit"), question.query("continue")), (Some("32"), Some("")));
        let page = json!({"metadata": {"continue": "a/b="}, "items": [thing("one", 1, 1)]});
        question.answer(200, &page).await;
        let question = asked.next().await;
        assert_eq!((question.query("limit"), question.query("continue")), (Some("32"), Some("a%2Fb%3D")));
        question.answer(200, &json!({"metadata": {"resourceVersion": "3"}, "items": [thing("two", 2, 2)]})).await;
        let _watch = watch_from(&mut asked, "3").await;
        assert_eq!(heard.take(), ["all: one=1 two=2", "published"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_without_end_and_one_that_is_none_are_refused() {
        let (heard, mut asked) = begin();
        list_of(&mut asked, 1, &[]).await;
        let mut watch = watch_from(&mut asked, "1").await.stream();
        watch.say("MODIFIED", json!({"metadata": {"name": "x".repeat(ANSWER_MAX_BYTES)}, "value": 1})).await;
        list_of(&mut asked, 2, &[]).await;
        let mut watch = watch_from(&mut asked, "2").await.stream();
        watch.say("MODIFIED", json!("one")).await;
        list_of(&mut asked, 3, &[]).await;
        let _watch = watch_from(&mut asked, "3").await;
        let failed: Vec<_> = heard.take().into_iter().filter(|what| what.starts_with("failed")).collect();
        assert_eq!(
            failed,
            [
                "failed: the API server's answer has more than 4194304 bytes, which are the most that is read",
                "failed: the API server's answer is not understood",
            ]
        );
        assert!(asked.is_quiet());
    }
}
