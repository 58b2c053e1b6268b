//! Makes nodes: their numbers, their places, and how high the tree under each is.

use crate::ast::{Call, Expr, Id, Kind, Location};

/// An error ends parsing: where, and what.
pub(crate) type Fallible<T> = Result<T, (Location, String)>;

#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) locations: Vec<Location>,
    heights: Vec<u32>,
    /// The height of the highest tree.
    pub(crate) tallest: u32,
    /// How many hidden variables macros have made.
    pub(crate) hidden: u32,
}

impl Builder {
    pub(crate) fn node(&mut self, at: Location, kind: Kind) -> Expr {
        // The source is at most 100,000 code points, and no token or macro makes more than a few nodes.
        let id = Id::try_from(self.locations.len()).unwrap_or(Id::MAX);
        let mut height = 0;
        kind.each_child(&mut |child| height = self.height(child).max(height));
        self.locations.push(at);
        self.heights.push(height.saturating_add(1));
        self.tallest = self.tallest.max(height.saturating_add(1));
        Expr { id, kind }
    }

    pub(crate) fn height(&self, expr: &Expr) -> u32 {
        usize::try_from(expr.id)
            .ok()
            .and_then(|id| self.heights.get(id))
            .copied()
            .unwrap_or(0)
    }

    pub(crate) fn location(&self, expr: &Expr) -> Location {
        usize::try_from(expr.id)
            .ok()
            .and_then(|id| self.locations.get(id))
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn call(
        &mut self,
        at: Location,
        function: &str,
        target: Option<Expr>,
        args: Vec<Expr>,
    ) -> Expr {
        self.node(
            at,
            Kind::Call(Box::new(Call {
                function: function.into(),
                target,
                args,
            })),
        )
    }

    /// Another term of an `&&` or `||`.
    pub(crate) fn joined(
        &mut self,
        id: Id,
        mut terms: Vec<Expr>,
        right: Expr,
        kind: fn(Vec<Expr>) -> Kind,
    ) -> Expr {
        let height = self.height(&right).saturating_add(1);
        if let Some(known) = usize::try_from(id)
            .ok()
            .and_then(|id| self.heights.get_mut(id))
        {
            *known = height.max(*known);
        }
        self.tallest = self.tallest.max(height);
        terms.push(right);
        Expr {
            id,
            kind: kind(terms),
        }
    }
}
