//! So many questions in flight, always.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Course, Desk};
use crate::transport::Ask;

/// Each of `askers` asks one question after the other until the course is over, and gets its last answer.
pub(super) async fn run<A: Ask>(askers: Vec<A>, course: &Arc<Course>, desk: &Arc<Desk>) {
    let mut tasks = JoinSet::new();
    for mut asker in askers {
        let (course, desk) = (Arc::clone(course), Arc::clone(desk));
        tasks.spawn(async move {
            while course.take() {
                let question = desk.next();
                desk.ask(&mut asker, question, Instant::now()).await;
            }
        });
    }
    // A panic here is a bug of ours, and has been printed.
    while tasks.join_next().await.is_some() {}
}
