//! Which calls are retried, when, and how often: on a paused clock, so that every pause is exact.

use std::collections::HashMap;
use std::future::ready;

use tonic_types::ErrorDetails;

use super::*;

/// The times at which a server that answers each attempt by the next of `answers` was asked, and what came of it.
async fn asked(
    retry: &Retry,
    timeout: Option<Duration>,
    answers: Vec<Result<(), Status>>,
) -> (Vec<Duration>, Result<(), Code>) {
    let begin = Instant::now();
    let mut times = Vec::new();
    let mut answers = answers.into_iter();
    let outcome = retry
        .call(timeout, |_attempt| {
            times.push(begin.elapsed());
            ready(answers.next().expect("asked more often than expected"))
        })
        .await;
    (times, outcome.map_err(|status| status.code()))
}

fn unavailable() -> Result<(), Status> {
    Err(Status::unavailable("no connection"))
}

fn busy(delay: Duration) -> Result<(), Status> {
    let details = ErrorDetails::with_retry_info(Some(delay));
    Err(Status::with_error_details(
        Code::ResourceExhausted,
        "busy",
        details,
    ))
}

fn pushed_back(value: &'static str) -> Result<(), Status> {
    let mut status = Status::unavailable("later");
    status
        .metadata_mut()
        .insert(PUSHBACK, value.parse().unwrap());
    Err(status)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_sent_again_after_growing_pauses_and_not_for_ever() {
    let answers = (0..4).map(|_| unavailable()).collect();
    let (times, outcome) = asked(&Retry::default(), None, answers).await;
    assert_eq!(outcome, Err(Code::Unavailable));
    assert_eq!(times.len(), 4);
    for (nth, pause) in [ms(100), ms(200), ms(400)].into_iter().enumerate() {
        let waited = times[nth + 1] - times[nth];
        // The clock of the runtime has a resolution of a millisecond.
        assert!(waited >= pause.mul_f64(0.8), "pause {nth}: {waited:?}");
        assert!(
            waited <= pause.mul_f64(1.2) + ms(2),
            "pause {nth}: {waited:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_pause_is_longer_than_the_longest() {
    let policy = RetryPolicy {
        max_attempts: 5,
        max_backoff: ms(150),
        ..RetryPolicy::default()
    };
    let answers = (0..5).map(|_| unavailable()).collect();
    let (times, _) = asked(&Retry::new(policy), None, answers).await;
    assert_eq!(times.len(), 5);
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] <= ms(182), "{times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_it() {
    let (times, outcome) = asked(&Retry::default(), None, vec![unavailable(), Ok(())]).await;
    assert_eq!((times.len(), outcome), (2, Ok(())));
}

#[tokio::test(start_paused = true)]
async fn what_will_not_pass_is_sent_once() {
    for code in [
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::DataLoss,
        Code::Unauthenticated,
    ] {
        let answers = vec![Err(Status::new(code, ""))];
        let (times, outcome) = asked(&Retry::default(), None, answers).await;
        assert_eq!((times.len(), outcome), (1, Err(code)));
    }
    let mut denied = Status::permission_denied("");
    denied.metadata_mut().insert(PUSHBACK, "1".parse().unwrap());
    let (times, _) = asked(&Retry::default(), None, vec![Err(denied)]).await;
    assert_eq!(
        times.len(),
        1,
        "a pushback makes no refusal worth repeating"
    );
}

#[tokio::test(start_paused = true)]
async fn the_server_says_when() {
    for (name, first, least) in [
        ("RetryInfo", busy(ms(700)), 700),
        ("pushback", pushed_back("300"), 300),
        ("at once", pushed_back("0"), 0),
    ] {
        let (times, outcome) = asked(&Retry::default(), None, vec![first, Ok(())]).await;
        assert_eq!(outcome, Ok(()), "{name}");
        let waited = times[1] - times[0];
        assert!(
            (ms(least)..=ms(least + 2)).contains(&waited),
            "{name}: {waited:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_says_never() {
    for value in ["-1", "", "soon", "60001", "18446744073709551616"] {
        let (times, outcome) = asked(&Retry::default(), None, vec![pushed_back(value)]).await;
        assert_eq!(
            (times.len(), outcome),
            (1, Err(Code::Unavailable)),
            "{value:?}"
        );
    }
    let (times, outcome) = asked(
        &Retry::default(),
        None,
        vec![busy(Duration::from_secs(3600))],
    )
    .await;
    assert_eq!((times.len(), outcome), (1, Err(Code::ResourceExhausted)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_past_the_deadline_and_nobody_waits_for_it_in_vain() {
    let (times, outcome) = asked(&Retry::default(), Some(ms(60)), vec![unavailable()]).await;
    assert_eq!((times.len(), outcome), (1, Err(Code::Unavailable)));

    let begin = Instant::now();
    let answers = vec![busy(ms(100)), busy(ms(100)), busy(ms(100))];
    let (times, _) = asked(&Retry::default(), Some(ms(250)), answers).await;
    assert_eq!(times.len(), 3);
    assert!(begin.elapsed() < ms(250));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_carries_what_is_left_of_the_time_and_its_number() {
    let mut sent = Vec::new();
    let outcome = Retry::default()
        .call(Some(ms(1000)), |attempt| {
            let request = attempt.request(());
            let header = |name| {
                request
                    .metadata()
                    .get(name)
                    .map(|v| v.to_str().unwrap().to_owned())
            };
            sent.push((header("grpc-timeout").unwrap(), header(PREVIOUS_ATTEMPTS)));
            ready(if attempt.previous < 2 {
                busy(ms(300))
            } else {
                Ok(())
            })
        })
        .await;
    assert!(outcome.is_ok());
    let millis: Vec<u64> = sent
        .iter()
        .map(|(timeout, _)| timeout.strip_suffix('m').unwrap().parse().unwrap())
        .collect();
    assert_eq!(millis[0], 1_000);
    assert!((697..=700).contains(&millis[1]), "{millis:?}");
    assert!((394..=400).contains(&millis[2]), "{millis:?}");
    let numbers: Vec<_> = sent.into_iter().map(|(_, number)| number).collect();
    assert_eq!(numbers, [None, Some("1".to_owned()), Some("2".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn no_timeout_is_no_header() {
    let attempt = Retry::default().begin(None);
    let metadata = attempt.request(()).metadata().clone().into_headers();
    assert_eq!(metadata.len(), 0);
    let past = Retry::default().begin(Some(ms(1)));
    tokio::time::advance(ms(5)).await;
    assert_eq!(
        past.request(()).metadata().get("grpc-timeout").unwrap(),
        "0m"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_gets_the_first_attempts_alone_once_the_budget_is_spent() {
    let retry = Retry::default();
    let mut attempts = HashMap::new();
    for call in 0..10 {
        let sent = retry
            .clone()
            .call::<(), _>(None, |_attempt| {
                *attempts.entry(call).or_insert(0) += 1;
                ready(Err(Status::unavailable("down")))
            })
            .await;
        assert!(sent.is_err());
    }
    assert_eq!(attempts[&0], 4);
    // Ten tokens: the fifth failure leaves half of them, and that is not more than half.
    assert_eq!(attempts[&1], 1);
    assert_eq!(attempts[&9], 1);

    // Each success gives back a tenth: 100 of them, and one failure is affordable again.
    for _ in 0..100 {
        retry.call(None, |_attempt| ready(Ok(()))).await.unwrap();
    }
    let (times, _) = asked(&retry, None, vec![unavailable(), Ok(())]).await;
    assert_eq!(times.len(), 2);
}
