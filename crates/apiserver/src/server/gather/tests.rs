use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// A stream that counts writes, and takes no more than it is told to.
#[derive(Debug)]
struct Counting {
    writes: Vec<usize>,
    flushes: usize,
    room: usize,
    breaks: bool,
}

fn counting(room: usize) -> Counting {
    Counting {
        writes: Vec::new(),
        flushes: 0,
        room,
        breaks: false,
    }
}

impl AsyncRead for Counting {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.breaks {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let count = bytes.len().min(self.room);
        if count == 0 {
            return Poll::Pending;
        }
        self.room -= count;
        self.writes.push(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushes += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Writes as h2 does: a frame, a flush, the next one.
fn write_frames(stream: &mut Gathered<Counting>, context: &mut Context<'_>, frames: usize) {
    for _ in 0..frames {
        let written = Pin::new(&mut *stream).poll_write(context, &[1; 100]);
        assert!(matches!(written, Poll::Ready(Ok(100))));
        assert!(matches!(
            Pin::new(&mut *stream).poll_flush(context),
            Poll::Ready(Ok(()))
        ));
    }
}

#[test]
fn what_one_poll_writes_is_sent_at_once_and_as_one() {
    let stream = Gathered::new(counting(1 << 20), true);
    let mut writer = stream.clone();
    let serving = poll_fn(|context| {
        write_frames(&mut writer, context, 16);
        Poll::<()>::Pending
    });
    let mut gathering = Gathering::new(serving, stream.clone(), || false);
    let mut context = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut gathering).poll(&mut context).is_pending());
    let shared = stream.0.lock();
    assert_eq!(
        (&shared.stream.writes[..], shared.stream.flushes),
        (&[1600][..], 1)
    );
    assert_eq!(shared.waiting.capacity(), 0, "an idle one keeps nothing");
}

/// How often a task was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn other_answers_are_waited_for_once_and_not_for_ever() {
    let stream = Gathered::new(counting(1 << 20), true);
    let mut writer = stream.clone();
    let serving = poll_fn(|context| {
        write_frames(&mut writer, context, 1);
        Poll::<()>::Pending
    });
    let mut gathering = Gathering::new(serving, stream.clone(), || true);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    for (polls, writes, wakes) in [(1, 0, 1), (2, 1, 1), (3, 1, 2), (4, 2, 2)] {
        assert!(Pin::new(&mut gathering).poll(&mut context).is_pending());
        assert_eq!(stream.0.lock().stream.writes.len(), writes, "{polls}");
        assert_eq!(woken.0.load(Ordering::Relaxed), wakes, "{polls}");
    }
    assert_eq!(stream.0.lock().stream.writes, [200, 200]);
}

#[test]
fn what_is_not_read_does_not_grow() {
    let stream = Gathered::new(counting(1000), true);
    let mut writer = stream.clone();
    let mut context = Context::from_waker(Waker::noop());
    let mut taken = 0;
    loop {
        // One write may be larger than all the room.
        let parts = [IoSlice::new(&[1; 9]), IoSlice::new(&[2; 200_000])];
        match Pin::new(&mut writer).poll_write_vectored(&mut context, &parts) {
            Poll::Ready(count) => taken += count.unwrap(),
            Poll::Pending => break,
        }
        assert!(taken <= GATHERED_BYTES);
        stream.send(&mut context);
    }
    assert_eq!(taken, GATHERED_BYTES);
    assert_eq!(stream.0.lock().taken, 1000);
    assert!(stream.0.lock().waiting.capacity() <= GATHERED_BYTES);
    // As soon as it is read, there is room again.
    stream.0.lock().stream.room = 1 << 20;
    let parts = [IoSlice::new(&[3; 9])];
    let written = Pin::new(&mut writer).poll_write_vectored(&mut context, &parts);
    assert!(matches!(written, Poll::Ready(Ok(9))));
    stream.send(&mut context);
    let sent: usize = stream.0.lock().stream.writes.iter().sum();
    assert_eq!(sent, GATHERED_BYTES + 9);
}

#[test]
fn a_failure_is_told_to_who_writes_and_wakes_them() {
    let stream = Gathered::new(counting(1 << 20), true);
    let mut writer = stream.clone();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    write_frames(&mut writer, &mut context, 1);
    stream.0.lock().stream.breaks = true;
    stream.send(&mut context);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(!stream.has_waiting());
    let flushed = Pin::new(&mut writer).poll_flush(&mut context);
    assert!(matches!(flushed, Poll::Ready(Err(_))));
}

/// A connection that echoes what it reads, as long as there is something to read.
async fn echo(mut stream: Gathered<DuplexStream>) -> io::Result<()> {
    let mut buffer = [0; 3000];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..count]).await?;
        stream.flush().await?;
    }
}

#[tokio::test]
async fn all_of_it_arrives_in_order_through_a_narrow_stream() {
    for several in [false, true] {
        let (near, far) = duplex(1000);
        let stream = Gathered::new(near, true);
        let serving = Gathering::new(echo(stream.clone()), stream, move || several);
        let serving = tokio::spawn(serving);
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let (mut reads, mut writes) = tokio::io::split(far);
        let copy = sent.clone();
        tokio::spawn(async move {
            writes.write_all(&copy).await.unwrap();
            writes.shutdown().await.unwrap();
        });
        let mut read = Vec::new();
        reads.read_to_end(&mut read).await.unwrap();
        assert!(read == sent, "{several}");
        serving.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_is_left_at_the_end_comes_before_what_others_write() {
    let (near, mut far) = duplex(100);
    let stream = Gathered::new(near, true);
    let mut writer = stream.clone();
    let serving = Gathering::new(
        async move { writer.write_all(&[1; 250]).await.map(|()| writer) },
        stream,
        || true,
    );
    // It is over, though not all could be sent; then another has the stream, and nobody polls the connection.
    let mut writer = serving.await.unwrap();
    let reading = tokio::spawn(async move {
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        read
    });
    writer.write_all(&[2; 50]).await.unwrap();
    writer.shutdown().await.unwrap();
    drop(writer);
    let read = reading.await.unwrap();
    assert_eq!(read, [[1; 250].as_slice(), &[2; 50]].concat());
}
