//! How connections end: half-closed, closed by us, flushed, dead.

use super::*;

pub(super) fn half_close<I: Backend>(io: I) {
    let mut world = World::new(io);
    let (mut client, conn) = world.client();
    client.write_all(b"the last request").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(world.receive(conn, 16), b"the last request");
    assert!(matches!(world.next(), Event::Eof { conn: from } if from == conn));
    world.silence();
    let bytes = pattern(50_000);
    world.io.send(conn, bytes.clone());
    world.sent(conn);
    world.io.send(conn, b"!".to_vec());
    world.sent(conn);
    world.close_and_wait(conn, true);
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got[..50_000], bytes);
    assert_eq!(&got[50_000..], b"!");
}

/// Fills the sockets between us and a client that does not read, until a send stays under way.
fn stuff<I: Backend>(world: &mut World<I>, conn: ConnId) -> usize {
    let mut sent = 0;
    for _ in 0..1000 {
        world.io.send(conn, vec![b'x'; 1_000_000]);
        for _ in 0..3 {
            world.turn(Duration::from_millis(10));
        }
        match world.queue.pop_front() {
            Some(Event::Sent { .. }) => sent += 1_000_000,
            None => return sent + 1_000_000,
            event => panic!("unexpected {event:?}"),
        }
    }
    panic!("a socket without end");
}

pub(super) fn a_client_that_never_reads<I: Backend>(io: I) {
    let mut world = World::new(io);
    let (mut client, conn) = world.client();
    stuff(&mut world, conn);
    // The others are served, without delay.
    let (mut other, other_conn) = world.client();
    let start = Instant::now();
    for _ in 0..50 {
        other.write_all(b"ping").unwrap();
        assert_eq!(world.receive(other_conn, 4), b"ping");
        world.io.send(other_conn, b"pong".to_vec());
        world.sent(other_conn);
        other.read_exact(&mut [0; 4]).unwrap();
    }
    assert!(start.elapsed() < PATIENCE, "slow beside a stuck client");
    // And it is served itself as far as it goes.
    client.write_all(b"still here").unwrap();
    assert_eq!(world.receive(conn, 10), b"still here");
    world.close_and_wait(conn, false);
    world.silence();
}

pub(super) fn close_without_flush_cuts_a_send<I: Backend>(io: I) {
    let mut world = World::new(io);
    let (mut client, conn) = world.client();
    let total = stuff(&mut world, conn);
    world.close_and_wait(conn, false);
    let mut got = Vec::new();
    // What was in the sockets may arrive, or be lost with the reset.
    let _ = client.read_to_end(&mut got);
    assert!(got.len() < total);
    world.silence();
}

pub(super) fn close_with_flush_ends_the_send<I: Backend>(io: I) {
    let mut world = World::new(io);
    for _ in 0..5 {
        let (mut client, conn) = world.client();
        let bytes = pattern(8_000_000);
        world.io.send(conn, bytes.clone());
        world.io.close(conn, true);
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            got
        });
        match world.next() {
            Event::Closed { conn: from, reason } => {
                assert_eq!((from, reason), (conn, CloseReason::Asked))
            }
            event => panic!("unexpected {event:?}"),
        }
        assert!(reader.join().unwrap() == bytes);
    }
    world.silence();
}

/// A flush that does not end can be given up.
pub(super) fn a_flush_can_be_cut<I: Backend>(io: I) {
    let mut world = World::new(io);
    let (_client, conn) = world.client();
    stuff(&mut world, conn);
    world.io.close(conn, true);
    world.silence();
    world.close_and_wait(conn, false);
    world.io.close(conn, false);
    world.silence();
}

/// After the end of a connection, and during it, all calls for it do nothing.
pub(super) fn calls_after_close<I: Backend>(io: I) {
    let mut world = World::new(io);
    let (mut client, conn) = world.client();
    client.write_all(&pattern(100_000)).unwrap();
    world.io.close(conn, false);
    for round in 0..3 {
        world.io.send(conn, b"x".to_vec());
        world.io.recv_into(conn, Vec::new(), 10);
        world.io.pause(conn);
        world.io.resume(conn);
        world.io.keepalive(conn, 10);
        world.io.close(conn, round == 1);
        if round == 0 {
            assert!(matches!(world.next(), Event::Closed { conn: from, .. } if from == conn));
        }
    }
    world.silence();
    assert_eq!(world.closed, [conn]);
}

/// A number of a connection is not given to another before the loop could see its end.
pub(super) fn numbers_are_not_reused_too_early<I: Backend>(io: I) {
    let mut world = World::new(io);
    let (_client, first) = world.client();
    world.io.close(first, false);
    while !world
        .queue
        .iter()
        .any(|event| matches!(event, Event::Closed { .. }))
    {
        world.turn(Duration::from_millis(5));
    }
    // `Closed` is among the events of the last turn, which the loop is going through.
    let adopt = |world: &mut World<I>| {
        let client = TcpStream::connect(world.addr).unwrap();
        world.io.adopt(Stream::from(client))
    };
    assert_ne!(adopt(&mut world), first);
    world.turn(Duration::ZERO);
    assert_eq!(adopt(&mut world), first);
}

/// Clients that vanish in all states. Each connection ends once; nothing else happens to the others.
pub(super) fn dying_clients<I: Backend>(io: I) {
    let mut world = World::new(io);
    let (mut witness, witness_conn) = world.client();
    for round in 0..60 {
        let (mut client, conn) = world.client();
        if round % 2 == 0 {
            client.write_all(&pattern(round * 100 + 1)).unwrap();
        }
        if round % 3 == 0 {
            world.io.send(conn, vec![b'y'; 3_000_000]);
        }
        if round % 5 == 0 {
            world.turn(Duration::from_millis(1));
        }
        if round % 7 < 5 {
            socket2::SockRef::from(&client)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        drop(client);
        let mut asked = false;
        loop {
            match world.next() {
                Event::Received { buf, .. } => world.io.release(buf),
                Event::Sent { .. } => {}
                Event::Eof { conn: from } => {
                    assert_eq!(from, conn);
                    world.io.close(conn, round % 4 == 0);
                    asked = true;
                }
                Event::Closed { conn: from, reason } => {
                    assert_eq!(from, conn);
                    assert!(
                        asked || matches!(reason, CloseReason::Error(_)),
                        "{reason:?}"
                    );
                    break;
                }
                event => panic!("unexpected {event:?}"),
            }
        }
    }
    witness.write_all(b"fine").unwrap();
    assert_eq!(world.receive(witness_conn, 4), b"fine");
    world.silence();
}

/// Dropping the backend in the middle of everything frees what it may, and hurts nobody.
pub(super) fn dropped_in_full_flow<I: Backend>(io: I) {
    let mut world = World::new(io);
    let (mut reader, conn) = world.client();
    let (mut writer, _) = world.client();
    let (_into, into_conn) = world.client();
    world.io.send(conn, vec![b'z'; 30_000_000]);
    world.io.recv_into(into_conn, Vec::new(), 5_000_000);
    writer.write_all(&pattern(100_000)).unwrap();
    let held = match world.next() {
        Event::Received { buf, .. } => buf,
        event => panic!("unexpected {event:?}"),
    };
    let bytes = held.to_vec();
    let start = Instant::now();
    drop(world);
    assert!(start.elapsed() < PATIENCE, "requests were still under way");
    assert_eq!(*held, bytes[..]);
    let mut got = Vec::new();
    let _ = reader.read_to_end(&mut got);
    assert!(got.len() < 30_000_000 && got.iter().all(|&byte| byte == b'z'));
}
