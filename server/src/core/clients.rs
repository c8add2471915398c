//! A core's clients.

use crate::client::Client;
use crate::io::ConnId;

/// The clients of a core by connection.
#[derive(Default)]
pub struct Clients {
    by_conn: Vec<Option<Box<Client>>>,
    len: usize,
}

impl Clients {
    #[inline]
    pub fn get(&self, conn: ConnId) -> Option<&Client> {
        self.by_conn.get(conn.0 as usize)?.as_deref()
    }
    #[inline]
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Client> {
        self.by_conn.get_mut(conn.0 as usize)?.as_deref_mut()
    }
    pub(super) fn insert(&mut self, client: Client) {
        let at = client.conn.0 as usize;
        if self.by_conn.len() <= at {
            self.by_conn.resize_with(at + 1, || None);
        }
        assert!(
            self.by_conn[at].is_none(),
            "a connection number in use twice"
        );
        self.by_conn[at] = Some(Box::new(client));
        self.len += 1;
    }
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Box<Client>> {
        let client = self.by_conn.get_mut(conn.0 as usize)?.take()?;
        self.len -= 1;
        Some(client)
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.by_conn.iter().flatten().map(|c| &**c)
    }
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.by_conn.iter_mut().flatten().map(|c| &mut **c)
    }
}
