# frozen_string_literal: true

require "socket"

module KinoBench
  # Keep-alive connections that have had one answer each and stay open. No thread watches them, so
  # that they cost nothing while something else is measured.
  class IdleConnections
    ANSWER_SECONDS = 10

    # Yields them open; closes them in any case.
    def self.hold(server, count, path)
      idle = new(server, path)
      idle.open(count)
      yield idle
    ensure
      idle.close
    end

    def initialize(server, path)
      @server = server
      @request = "GET #{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
      @sockets = []
    end

    def open(count)
      count.times { ask(connect) }
    rescue SystemCallError, IOError => e # a timeout and an early end are IOErrors
      raise Failure, "#{@server.name} answers only #{@sockets.size - 1} of #{count} idle " \
                     "connections: #{e.message}"
    end

    def size = @sockets.size

    # How many were closed, or sent what nobody asked for.
    def lost = @sockets.count { _1.read_nonblock(1, exception: false) != :wait_readable }

    # Resets them: thousands in TIME_WAIT would soon leave no port to connect from.
    def close
      @sockets.each do |socket|
        socket.setsockopt(:SOCKET, :LINGER, [1, 0].pack("ii"))
        socket.close
      end
      @sockets.clear
    end

    private

    def connect
      @sockets << (socket = TCPSocket.new("127.0.0.1", @server.port))
      socket.timeout = ANSWER_SECONDS
      socket
    end

    def ask(socket)
      socket.write(@request)
      head = socket.gets("\r\n\r\n") or raise EOFError, "the connection was closed"
      length = head[/^content-length: *(\d+)/i, 1] or
        raise Failure, "#{@server.name} sends no content-length"
      socket.read(Integer(length))
    end
  end
end
