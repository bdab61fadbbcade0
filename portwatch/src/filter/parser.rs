//! Tokens to a checked expression, by recursive descent; depth and size are bounded.

use std::ops::Range;

use super::ast::Expr;
use super::check;
use super::error::{Fault, shown};
use super::lexer::{self, Kind, Token};
use super::literal::Literal;
use super::{MAX_BYTES, MAX_DEPTH};

/// Parses a whole filter; `None` when there is nothing in it.
pub(super) fn parse(source: &str) -> Result<Option<Expr>, Fault> {
    if source.len() > MAX_BYTES {
        let message = format!(
            "the filter has {} bytes, and {MAX_BYTES} is the most that is read",
            source.len()
        );
        return Err(Fault::at(&(0..0), message));
    }
    let tokens = lexer::tokens(source)?;
    if tokens.is_empty() {
        return Ok(None);
    }
    let mut parser = Parser {
        source,
        tokens,
        next: 0,
        depth: 0,
    };
    let root = parser.or()?;
    match parser.peek() {
        None => Ok(Some(root)),
        Some(Token {
            kind: Kind::Close,
            span,
        }) => Err(Fault::at(span, "nothing is open that this could close")),
        Some(Token { span, .. }) => {
            let message = format!("{} does not belong here", shown(parser.text(span)));
            Err(Fault::at(span, message))
        }
    }
}

struct Parser<'s> {
    source: &'s str,
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
}

impl<'s> Parser<'s> {
    fn or(&mut self) -> Result<Expr, Fault> {
        let mut parts = vec![self.and()?];
        while self.take_joint(Kind::Or, "or") {
            parts.push(self.and()?);
        }
        Ok(Expr::or(parts))
    }

    fn and(&mut self) -> Result<Expr, Fault> {
        let mut parts = vec![self.unary()?];
        while self.take_joint(Kind::And, "and") || self.at_term() {
            parts.push(self.unary()?);
        }
        Ok(Expr::and(parts))
    }

    fn unary(&mut self) -> Result<Expr, Fault> {
        if self.take_joint(Kind::Not, "not") {
            let inner = self.nested(Self::unary)?;
            return Ok(Expr::Not(Box::new(inner)));
        }
        if self.peek().is_some_and(|token| token.kind == Kind::Open) {
            let open = self.advance();
            let inner = self.nested(Self::or)?;
            self.close(open)?;
            return Ok(inner);
        }
        self.term()
    }

    /// One level deeper: recursion is bounded here, and nowhere else needed.
    fn nested(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<Expr, Fault>,
    ) -> Result<Expr, Fault> {
        if self.depth == MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} levels of parentheses and `not`");
            return Err(Fault::at(&self.here(), message));
        }
        self.depth += 1;
        let inner = parse(self);
        self.depth -= 1;
        inner
    }

    fn term(&mut self) -> Result<Expr, Fault> {
        let Some(Token { kind, span }) = self.peek().cloned() else {
            return Err(Fault::at(
                &self.here(),
                "the filter ends where a term should follow",
            ));
        };
        let text = self.text(&span);
        match kind {
            Kind::Word if is_keyword(text) => {
                let message = format!("a term should stand before `{text}`");
                Err(Fault::at(&span, message))
            }
            Kind::Word => {
                self.next += 1;
                self.term_of_word(text, span)
            }
            Kind::Quoted => {
                let message = "a string needs a field before it, for example `name == \"…\"`";
                Err(Fault::at(&span, message))
            }
            _ => Err(Fault::at(
                &span,
                format!("a term should stand before {}", shown(text)),
            )),
        }
    }

    /// A term that starts with this word, which is taken already.
    fn term_of_word(&mut self, text: &'s str, span: Range<usize>) -> Result<Expr, Fault> {
        if let Some(Token {
            kind: Kind::Sign(sign),
            ..
        }) = self.peek()
        {
            let sign = *sign;
            let field = check::field(text, &span)?;
            self.next += 1;
            return check::compare(field, sign, &self.value("the operator")?);
        }
        if self.at_keyword(0, "contains") {
            let field = check::field(text, &span)?;
            self.next += 1;
            return check::contains(field, &self.value("`contains`")?);
        }
        let negated = self.at_keyword(0, "not");
        if self.at_keyword(usize::from(negated), "in") {
            let field = check::field(text, &span)?;
            self.next += 1 + usize::from(negated);
            let items = self.set()?;
            return check::member(field, negated, &items);
        }
        match text.split_once(':') {
            // An IPv6 address has colons too; alone it is no term, and the complaint should say so.
            Some((name, rest)) if check::likely_field(text).is_none() => {
                self.short(name, rest, &span)
            }
            _ => check::bare(&Literal::read(self.source, Kind::Word, span)?),
        }
    }

    /// `name:value,value`; a quoted value stands right behind the colon.
    fn short(&mut self, name: &str, rest: &str, span: &Range<usize>) -> Result<Expr, Fault> {
        let field = check::field(name, &(span.start..span.start + name.len()))?;
        let first = if rest.is_empty() {
            match self.peek() {
                Some(token) if token.kind == Kind::Quoted && token.span.start == span.end => {
                    self.value("the colon")?
                }
                _ => return Err(Fault::at(span, "a value should follow the colon at once")),
            }
        } else {
            Literal::read(self.source, Kind::Word, span.end - rest.len()..span.end)?
        };
        let mut items = vec![first];
        while self.take(Kind::Comma) {
            items.push(self.value("the comma")?);
        }
        let term = check::short(field, &items)?;
        match term {
            // Its normal form has parentheses where nobody wrote any, and must be read again.
            Expr::Or(_) => self.nested(|_| Ok(term)),
            term => Ok(term),
        }
    }

    /// What follows `in`: one item, or several in brackets.
    fn set(&mut self) -> Result<Vec<Literal>, Fault> {
        if self.peek().is_none_or(|token| token.kind != Kind::Open) {
            return Ok(vec![self.value("`in`")?]);
        }
        let open = self.advance();
        let mut items = vec![self.value("the bracket")?];
        while self.take(Kind::Comma) {
            items.push(self.value("the comma")?);
        }
        self.close(open)?;
        Ok(items)
    }

    fn value(&mut self, after: &str) -> Result<Literal, Fault> {
        match self.peek().cloned() {
            Some(Token {
                kind: kind @ (Kind::Word | Kind::Quoted),
                span,
            }) => {
                self.next += 1;
                Literal::read(self.source, kind, span)
            }
            Some(Token {
                kind: Kind::Open,
                span,
            }) => {
                let message = format!("one value should follow {after}; lists go with `in`");
                Err(Fault::at(&span, message))
            }
            _ => Err(Fault::at(
                &self.here(),
                format!("a value should follow {after}"),
            )),
        }
    }

    /// Takes the bracket that closes the one at `open`; both must be of one shape.
    fn close(&mut self, open: Range<usize>) -> Result<(), Fault> {
        let wanted = if self.text(&open) == "{" { "}" } else { ")" };
        match self.peek() {
            Some(token) if token.kind == Kind::Close && self.text(&token.span) == wanted => {
                self.next += 1;
                Ok(())
            }
            Some(token) => Err(Fault::at(
                &token.span,
                format!("`{wanted}` should stand here"),
            )),
            None => Err(Fault::at(
                &open,
                format!("this is never closed; add `{wanted}`"),
            )),
        }
    }

    fn take(&mut self, kind: Kind) -> bool {
        let found = self.peek().is_some_and(|token| token.kind == kind);
        self.next += usize::from(found);
        found
    }

    /// Takes an operator in either spelling.
    fn take_joint(&mut self, kind: Kind, word: &str) -> bool {
        if self.at_keyword(0, word) {
            self.next += 1;
            return true;
        }
        self.take(kind)
    }

    /// Could a term start here, so that it is joined by an `and` which nobody wrote?
    fn at_term(&self) -> bool {
        self.peek().is_some_and(|token| match token.kind {
            Kind::Word => !self.at_keyword(0, "or"),
            Kind::Quoted | Kind::Not | Kind::Open => true,
            _ => false,
        })
    }

    fn at_keyword(&self, ahead: usize, word: &str) -> bool {
        self.tokens.get(self.next + ahead).is_some_and(|token| {
            token.kind == Kind::Word && self.text(&token.span).eq_ignore_ascii_case(word)
        })
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    /// Takes whatever comes and says where it was.
    fn advance(&mut self) -> Range<usize> {
        let span = self.here();
        self.next += 1;
        span
    }

    /// The next token's place, or the end.
    fn here(&self) -> Range<usize> {
        let end = self.source.trim_end().len();
        self.peek().map_or(end..end, |token| token.span.clone())
    }

    fn text(&self, span: &Range<usize>) -> &'s str {
        self.source.get(span.clone()).unwrap_or_default()
    }
}

/// Words that join terms or follow a field, and so never start a term.
fn is_keyword(word: &str) -> bool {
    ["and", "or", "in", "contains"]
        .iter()
        .any(|keyword| word.eq_ignore_ascii_case(keyword))
}
