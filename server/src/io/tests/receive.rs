//! Receiving: echo, buffers that run out, large values, pauses.

use super::*;

pub(super) fn echo<I: Backend>(io: I) {
    let mut world = World::new(io);
    let (mut client, conn) = world.client();
    world.io.send(conn, Vec::new());
    assert!(world.sent(conn).is_empty());
    for count in [1, 2, 63, 4096, 16 << 10, (16 << 10) + 1, 100_000] {
        let bytes = pattern(count);
        client.write_all(&bytes).unwrap();
        assert_eq!(world.receive(conn, count), bytes);
        world.io.send(conn, bytes.clone());
        let buf = world.sent(conn);
        let mut back = vec![0; count];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, bytes);
        assert!(buf.is_empty() && buf.capacity() >= count);
    }
    drop(client);
    assert!(matches!(world.next(), Event::Eof { conn: from } if from == conn));
    world.close_and_wait(conn, false);
    world.silence();
}

pub(super) fn echo_of_many_small_writes<I: Backend>(io: I) {
    let mut world = World::new(io);
    let (mut client, conn) = world.client();
    let bytes = pattern(5000);
    for piece in bytes.chunks(7) {
        client.write_all(piece).unwrap();
        world.turn(Duration::ZERO);
    }
    assert_eq!(world.receive(conn, bytes.len()), bytes);
}

/// Sends all of `bytes` from a thread, because nobody reads at first.
fn sender(client: &TcpStream, bytes: &[u8]) -> std::thread::JoinHandle<()> {
    let (mut client, bytes) = (client.try_clone().unwrap(), bytes.to_vec());
    std::thread::spawn(move || client.write_all(&bytes).unwrap())
}

/// The loop holds every buffer it gets, far more than the backend has.
pub(super) fn buffers_run_out<I: Backend>(io: I) {
    let mut world = World::new(io);
    let bytes = pattern(1_000_000);
    let clients: Vec<_> = (0..3).map(|_| world.client()).collect();
    let senders: Vec<_> = clients
        .iter()
        .map(|(client, _)| sender(client, &bytes))
        .collect();
    let mut got = vec![Vec::new(); clients.len()];
    let mut held = Vec::new();
    while got.iter().any(|got| got.len() < bytes.len()) {
        match world.next() {
            Event::Received { conn, buf } => {
                let index = clients.iter().position(|(_, id)| *id == conn).unwrap();
                got[index].extend_from_slice(&buf);
                held.push((index, got[index].len() - buf.len(), buf));
            }
            event => panic!("unexpected {event:?}"),
        }
    }
    assert!(got.iter().all(|got| *got == bytes));
    for (_, start, buf) in held {
        assert_eq!(
            *buf,
            bytes[start..start + buf.len()],
            "a held buffer was written to"
        );
        world.io.release(buf);
    }
    senders
        .into_iter()
        .for_each(|sender| sender.join().unwrap());
    // All buffers are back: receiving goes on as ever.
    for (client, conn) in &clients {
        (&*client).write_all(b"more").unwrap();
        assert_eq!(world.receive(*conn, 4), b"more");
    }
    world.silence();
}

/// A value received straight into the loop's memory, for every way that its bytes may have come before.
pub(super) fn recv_into_with_every_split<I: Backend>(io: I) {
    const SIZES: [usize; 5] = [1, 1000, 40_000, 70_000, 3_000_000];
    let mut world = World::new(io);
    let (client, conn) = world.client();
    let after = b"what follows";
    for size in SIZES {
        let bytes = pattern(size + after.len());
        // How much is sent, and reported, before the loop asks; then how much is sent, and maybe has arrived,
        // before the turn that the request goes out with.
        for (reported, arrived) in [
            (0, 0),
            (0, 1),
            (1, 0),
            (1, size / 2),
            (size / 2, size),
            (size - 1, size),
            (0, bytes.len()),
        ] {
            let (reported, arrived) = (reported.min(size - 1), arrived.max(reported.min(size - 1)));
            let first = sender(&client, &bytes[..reported]);
            let mut buf = world.receive(conn, reported);
            first.join().unwrap();
            buf.reserve(size - buf.len());
            let second = sender(&client, &bytes[reported..arrived]);
            std::thread::sleep(Duration::from_millis(1));
            world.io.recv_into(conn, buf, size);
            let third = {
                let (mut client, rest) = (client.try_clone().unwrap(), bytes[arrived..].to_vec());
                std::thread::spawn(move || {
                    second.join().unwrap();
                    client.write_all(&rest).unwrap();
                })
            };
            match world.next() {
                Event::Filled { conn: from, buf } => {
                    assert_eq!(from, conn);
                    assert!(
                        buf == bytes[..size],
                        "wrong bytes at {size} {reported} {arrived}"
                    );
                }
                event => panic!("unexpected {event:?}"),
            }
            assert_eq!(world.receive(conn, after.len()), bytes[size..]);
            third.join().unwrap();
        }
    }
    world.silence();
}

/// Large values back to back, with a small request between them, as a pipeline of SETs has them.
pub(super) fn recv_into_again_and_again<I: Backend>(io: I) {
    let mut world = World::new(io);
    let (client, conn) = world.client();
    let size = 200_000;
    let bytes = pattern((size + 5) * 20);
    let sender = sender(&client, &bytes);
    let mut rest: Vec<u8> = Vec::new();
    let mut at = 0;
    let mut filled = 0;
    while at < bytes.len() {
        // A "header" of 5 bytes, then a value.
        while rest.len() < 5 {
            match world.next() {
                Event::Received { conn: from, buf } if from == conn => {
                    rest.extend_from_slice(&buf);
                    world.io.release(buf);
                }
                event => panic!("unexpected {event:?}"),
            }
            // As the loop does: everything that was reported is taken before memory is offered.
            while let Some(Event::Received { buf, .. }) = world.queue.pop_front() {
                rest.extend_from_slice(&buf);
                world.io.release(buf);
            }
        }
        assert_eq!(rest[..5], bytes[at..at + 5]);
        rest.drain(..5);
        at += 5;
        if rest.len() >= size {
            assert_eq!(rest[..size], bytes[at..at + size]);
            rest.drain(..size);
        } else {
            world.io.recv_into(conn, std::mem::take(&mut rest), size);
            match world.next() {
                Event::Filled { buf, .. } => assert!(buf == bytes[at..at + size]),
                event => panic!("unexpected {event:?}"),
            }
            filled += 1;
            while let Some(Event::Received { buf, .. }) = world.queue.pop_front() {
                rest.extend_from_slice(&buf);
                world.io.release(buf);
            }
        }
        at += size;
    }
    assert!(rest.is_empty());
    assert!(filled > 0);
    sender.join().unwrap();
    world.silence();
}

/// The peer ends, or dies, in the middle of a large value: no `Filled`.
pub(super) fn recv_into_is_cut_short<I: Backend>(io: I) {
    let mut world = World::new(io);
    for reset in [false, true] {
        let (mut client, conn) = world.client();
        world.io.recv_into(conn, Vec::new(), 1_000_000);
        client.write_all(&pattern(60_000)).unwrap();
        for _ in 0..5 {
            world.turn(Duration::from_millis(2));
        }
        assert!(world.queue.is_empty());
        if reset {
            socket2::SockRef::from(&client)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        drop(client);
        match world.next() {
            // Of a reset, io_uring reports what had come before it, and then an end without the error.
            Event::Eof { conn: from } => {
                assert_eq!(from, conn);
                world.close_and_wait(conn, false);
            }
            Event::Closed { conn: from, reason } if reset => {
                assert_eq!((from, reason), (conn, CloseReason::Error(libc::ECONNRESET)));
            }
            event => panic!("unexpected {event:?}"),
        }
        world.silence();
    }
}

/// Asked for while it waits: the connection can be closed.
pub(super) fn close_during_recv_into<I: Backend>(io: I) {
    let mut world = World::new(io);
    for size in [100, 1_000_000] {
        let (mut client, conn) = world.client();
        client.write_all(b"x").unwrap();
        world.io.recv_into(conn, Vec::new(), size);
        world.turn(Duration::from_millis(5));
        world.close_and_wait(conn, true);
    }
    world.silence();
}

pub(super) fn pause_and_resume<I: Backend>(io: I) {
    let mut world = World::new(io);
    let (mut client, conn) = world.client();
    for round in 0..20_u8 {
        world.io.pause(conn);
        // Receiving under way ends with this turn.
        world.turn(Duration::ZERO);
        world.turn(Duration::from_millis(1));
        client.write_all(&[round; 3000]).unwrap();
        let (_, other) = world.client();
        assert!(matches!(world.next(), Event::Eof { .. }));
        world.close_and_wait(other, false);
        if round % 5 == 0 {
            world.silence();
        }
        world.io.resume(conn);
        if round % 2 == 0 {
            // Undone before it took effect.
            world.io.pause(conn);
            world.io.resume(conn);
        }
        assert_eq!(world.receive(conn, 3000), [round; 3000]);
    }
    world.io.pause(conn);
    world.close_and_wait(conn, false);
    world.silence();
}

/// A paused client's bytes fill the sockets, not our memory.
pub(super) fn pause_in_full_flow<I: Backend>(io: I) {
    let mut world = World::new(io);
    let (client, conn) = world.client();
    let bytes = pattern(20_000_000);
    let sender = sender(&client, &bytes);
    let mut got = Vec::new();
    while got.len() < bytes.len() {
        match world.next() {
            Event::Received { conn: from, buf } => {
                assert_eq!(from, conn);
                got.extend_from_slice(&buf);
                world.io.release(buf);
            }
            event => panic!("unexpected {event:?}"),
        }
        if got.len() % 7 == 0 {
            world.io.pause(conn);
            world.turn(Duration::ZERO);
            world.io.resume(conn);
        }
    }
    assert!(got == bytes);
    sender.join().unwrap();
    world.silence();
}

/// Started and stopped in the same breath, at every stage of an arrival.
pub(super) fn stopped_at_once<I: Backend>(io: I) {
    let mut world = World::new(io);
    for round in 0..300_usize {
        let (mut client, conn) = world.client();
        client.write_all(&pattern(round * 37 % 5000 + 1)).unwrap();
        if round % 3 == 0 {
            world.turn(Duration::ZERO);
        }
        match round % 4 {
            0 => world.io.pause(conn),
            1 => world.io.recv_into(conn, Vec::new(), 100_000),
            2 => world.io.send(conn, vec![b'x'; 100_000]),
            _ => {}
        }
        if round % 5 == 0 {
            world.turn(Duration::ZERO);
            world.io.resume(conn);
        }
        world.io.close(conn, round % 2 == 0);
        loop {
            match world.next() {
                Event::Received { buf, .. } => world.io.release(buf),
                Event::Sent { .. } => {}
                Event::Closed { conn: from, .. } => {
                    assert_eq!(from, conn);
                    break;
                }
                event => panic!("unexpected {event:?}"),
            }
        }
    }
    world.silence();
}
