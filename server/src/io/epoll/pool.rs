//! Receive buffers of the epoll backend.
//!
//! Idea: receives of a turn are packed one behind the other into a large chunk, and the chunk starts anew as soon as
//! all pieces are back, so that small requests always lie in the same few cache lines. A chunk that the loop holds
//! on to is set aside until it is free.
//!
//! Invariant: memory of a chunk is written only from `used` on, and reused only when no piece of it is out.

use std::mem::ManuallyDrop;

use crate::io::RecvBuf;

/// Size of a chunk, and how much room a receive gets at least.
const CHUNK: usize = 128 << 10;
const ROOM_MIN: usize = 16 << 10;

/// How many free chunks are kept.
const SPARE_MAX: usize = 8;

struct Chunk {
    /// A boxed slice, held by pointer because pieces of it are out.
    data: *mut u8,
    used: usize,
    pieces: u32,
}

pub(super) struct Pool {
    chunks: Vec<Chunk>,
    /// The one being filled.
    current: usize,
    spare: Vec<usize>,
    /// Places in `chunks` without memory.
    vacant: Vec<usize>,
}

impl Pool {
    pub(super) fn new() -> Pool {
        Pool {
            chunks: vec![Chunk::new()],
            current: 0,
            spare: Vec::new(),
            vacant: Vec::new(),
        }
    }

    /// Room for the next receive.
    #[inline]
    pub(super) fn room(&mut self) -> &mut [u8] {
        if CHUNK - self.chunks[self.current].used < ROOM_MIN {
            self.next_chunk();
        }
        let chunk = &mut self.chunks[self.current];
        // SAFETY: within the chunk, from `used` on, where no piece is, and initialised since it was made.
        unsafe { std::slice::from_raw_parts_mut(chunk.data.add(chunk.used), CHUNK - chunk.used) }
    }

    #[cold]
    fn next_chunk(&mut self) {
        self.current = match (self.spare.pop(), self.vacant.pop()) {
            (Some(index), vacant) => {
                self.vacant.extend(vacant);
                index
            }
            (None, Some(index)) => {
                self.chunks[index] = Chunk::new();
                index
            }
            (None, None) => {
                self.chunks.push(Chunk::new());
                self.chunks.len() - 1
            }
        };
    }

    /// The first `len` bytes of the room, which a receive has filled.
    #[inline]
    pub(super) fn take(&mut self, len: usize) -> RecvBuf {
        let chunk = &mut self.chunks[self.current];
        assert!(len <= CHUNK - chunk.used);
        // SAFETY: within the chunk.
        let data = unsafe { chunk.data.add(chunk.used) };
        chunk.used += len;
        chunk.pieces += 1;
        RecvBuf {
            data,
            len: len as u32,
            id: self.current as u32,
        }
    }

    #[inline]
    pub(super) fn release(&mut self, buf: RecvBuf) {
        let index = buf.id as usize;
        let chunk = &mut self.chunks[index];
        chunk.pieces -= 1;
        if chunk.pieces > 0 {
            return;
        }
        chunk.used = 0;
        if index == self.current {
            return;
        }
        if self.spare.len() < SPARE_MAX {
            self.spare.push(index);
        } else {
            chunk.free();
            self.vacant.push(index);
        }
    }

    /// Bytes held in chunks.
    pub(super) fn memory(&self) -> usize {
        (self.chunks.len() - self.vacant.len()) * CHUNK
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Chunks of which the loop still holds pieces are left alone, for good.
        for chunk in self
            .chunks
            .iter_mut()
            .filter(|chunk| chunk.pieces == 0 && !chunk.data.is_null())
        {
            chunk.free();
        }
    }
}

impl Chunk {
    fn new() -> Chunk {
        // Zeroed memory is initialised memory, which slices need; fresh pages cost nothing extra for it.
        let mut memory = ManuallyDrop::new(vec![0_u8; CHUNK].into_boxed_slice());
        Chunk {
            data: memory.as_mut_ptr(),
            used: 0,
            pieces: 0,
        }
    }

    fn free(&mut self) {
        // SAFETY: `data` came from a box of this length, and no piece refers to it; it is not used again.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.data, CHUNK)) });
        self.data = std::ptr::null_mut();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(pool: &mut Pool, byte: u8, len: usize) -> RecvBuf {
        pool.room()[..len].fill(byte);
        pool.take(len)
    }

    #[test]
    fn pieces_keep_their_bytes_until_released() {
        let mut pool = Pool::new();
        let mut held: Vec<(u8, RecvBuf)> = Vec::new();
        for round in 0..200_u32 {
            let byte = round as u8;
            held.push((
                byte,
                put(&mut pool, byte, 1 + (round as usize * 997) % ROOM_MIN),
            ));
            if round % 3 == 0 {
                let (byte, buf) = held.remove(round as usize % held.len());
                assert!(buf.iter().all(|&b| b == byte));
                pool.release(buf);
            }
        }
        for (byte, buf) in held {
            assert!(buf.iter().all(|&b| b == byte));
            pool.release(buf);
        }
        assert!(pool.memory() <= (SPARE_MAX + 1) * CHUNK);
    }

    #[test]
    fn the_same_memory_is_used_again() {
        let mut pool = Pool::new();
        let first = put(&mut pool, 1, 100);
        let place = first.as_ptr();
        pool.release(first);
        let second = put(&mut pool, 2, 100);
        assert_eq!(second.as_ptr(), place);
        pool.release(second);
        assert_eq!(pool.memory(), CHUNK);
    }
}
