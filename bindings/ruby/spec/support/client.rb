# frozen_string_literal: true

require "socket"

# A client that writes what it is told and reads answers, each with a deadline.
class Client
  SECONDS = 10

  Answer = Struct.new(:status, :fields, :body) do
    # All values of a field.
    def all(name) = fields.select { |field, _| field == name }.map(&:last)
    def [](name) = all(name).first
  end

  def self.open(port)
    client = new(port)
    yield client
  ensure
    client&.close
  end

  # The answer to one request on a connection of its own.
  def self.get(port, path, *fields)
    open(port) do |client|
      client.get(path, *fields)
      client.answer
    end
  end

  def initialize(port, host = "127.0.0.1")
    @socket = Socket.tcp(host, port, connect_timeout: SECONDS)
    @rest = "".b
  end

  def local_port = @socket.local_address.ip_port

  def write(bytes) = @socket.write(bytes)

  def get(path, *fields) = request("GET", path, *fields)

  def request(method, path, *fields, body: nil)
    fields << "Content-Length: #{body.bytesize}" if body
    write("#{method} #{path} HTTP/1.1\r\nHost: example.org:8080\r\n" \
          "#{fields.map { "#{_1}\r\n" }.join}\r\n#{body}")
  end

  # head_only: the request was HEAD, so there is no body whatever the head says.
  def answer(head_only: false)
    head = read_until("\r\n\r\n")
    status_line, *lines = head.split("\r\n")
    fields = lines.map { |line| line.split(/:\s*/, 2) }
    length = fields.to_h["content-length"].to_i
    Answer.new(status_line.split[1].to_i, fields, head_only ? "" : read_exactly(length))
  end

  # Everything up to the end of the connection.
  def drain
    nil while fill
    @rest
  end

  # Whether the server has closed the connection, and sent nothing before.
  def closed? = @rest.empty? && fill.nil?

  def close = @socket.close

  private

  def read_until(mark)
    until (at = @rest.index(mark))
      fill or raise EOFError, "the server closed the connection after #{@rest.inspect}"
    end
    @rest.slice!(0, at + mark.bytesize)
  end

  def read_exactly(length)
    while @rest.bytesize < length
      fill or raise EOFError, "the server closed the connection within a body"
    end
    @rest.slice!(0, length)
  end

  def fill
    raise "nothing came for #{SECONDS} s" unless @socket.wait_readable(SECONDS)

    chunk = @socket.read_nonblock(65_536, exception: false)
    raise "nothing came after all" if chunk == :wait_readable

    @rest << chunk if chunk
  rescue Errno::ECONNRESET
    nil
  end
end
