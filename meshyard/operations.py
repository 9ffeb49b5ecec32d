"""Turns flows into methods: the same table of operations serves the client that waits and the one that awaits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Generic, ParamSpec, TypeVar, overload

from meshyard.effects import Flow, Items
from meshyard.transport import AsyncDriver, SyncDriver

P = ParamSpec("P")
T = TypeVar("T")
Driver = TypeVar("Driver", SyncDriver, AsyncDriver)


class Resource(Generic[Driver]):
    """A group of operations, carried out by one driver."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def run(self, flow: Any) -> Any:
        """Carry out a flow that comes to one result."""
        return self._driver.run(flow)

    def iterate(self, items: Any) -> Any:
        """Carry out a flow that comes to many."""
        return self._driver.iterate(items)


class operation(Generic[P, T]):  # noqa: N801 - used like a decorator
    """A flow as a method: it gives the result, or a coroutine of it."""

    def __init__(self, flow: Callable[P, Flow[T]]) -> None:
        self._flow = flow
        self.__doc__ = flow.__doc__
        self.__wrapped__ = flow

    @overload
    def __get__(self, instance: None, owner: type) -> operation[P, T]: ...
    @overload
    def __get__(self, instance: Resource[SyncDriver], owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: Resource[AsyncDriver], owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, instance: Resource[Any] | None, owner: type) -> Any:
        if instance is None:
            return self

        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return instance.run(self._flow(*args, **kwargs))

        return _named(method, self._flow)


class iteration(Generic[P, T]):  # noqa: N801 - used like a decorator
    """A flow of items as a method: it gives an iterator, or an asynchronous one."""

    def __init__(self, flow: Callable[P, Items[T]]) -> None:
        self._flow = flow
        self.__doc__ = flow.__doc__
        self.__wrapped__ = flow

    @overload
    def __get__(self, instance: None, owner: type) -> iteration[P, T]: ...
    @overload
    def __get__(self, instance: Resource[SyncDriver], owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, instance: Resource[AsyncDriver], owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, instance: Resource[Any] | None, owner: type) -> Any:
        if instance is None:
            return self

        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return instance.iterate(self._flow(*args, **kwargs))

        return _named(method, self._flow)


def _named(method: Callable[..., Any], flow: Callable[..., Any]) -> Callable[..., Any]:
    method.__name__, method.__doc__ = flow.__name__, flow.__doc__
    return method
