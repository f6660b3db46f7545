# frozen_string_literal: true

require_relative "connection"
require_relative "tally"

module Soak
  # Keeps a number of connections busy from one thread, and counts what comes of it.
  class Client
    WAIT_SECONDS = 0.1

    attr_reader :tally

    def initialize(port, exchanges, connections)
      @port = port
      @exchanges = exchanges
      @size = connections
      @tally = Tally.new
      @terminated = false
      @connections = {}
    end

    # Runs until the time is up; calls the block between turns.
    def run(deadline)
      while now < deadline
        open while @connections.size < @size
        turn
        yield if block_given?
      end
    end

    # From here on requests count as sent after TERM, and no connection is opened any more.
    def terminated!
      @terminated = true
    end

    # Goes on asking on the connections that are left, until the server has closed them all.
    def run_out(deadline)
      turn while @connections.any? && now < deadline
    end

    def open_connections = @connections.size

    private

    # Connections take the exchanges in different order, so that a crossed answer shows.
    def open
      connection = Connection.new(@port, @exchanges.rotate(@connections.size), @tally)
      connection.ask(@terminated)
      @connections[connection.socket] = connection unless connection.closed?
    end

    def turn
      readable, = IO.select(@connections.keys, nil, nil, WAIT_SECONDS)
      readable&.each do |socket|
        connection = @connections[socket]
        connection.proceed(@terminated)
        @connections.delete(socket) if connection.closed?
      end
    end

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end
end
