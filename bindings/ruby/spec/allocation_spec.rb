# frozen_string_literal: true

require "rbconfig"

RSpec.describe "Objects allocated" do
  # Notes how many objects there have been at each call. It allocates two of them itself: the triple
  # and the headers.
  counting = Class.new do
    attr_reader :counts

    def initialize(calls)
      @counts = Array.new(calls, 0)
      @call = -1
      @body = ["Hello World"].freeze
    end

    def call(_env)
      @counts[@call += 1] = GC.stat(:total_allocated_objects)
      [200, { "content-type" => "text/plain" }, @body]
    end
  end

  # Another process asks, so that no object is a client's.
  def ask(port, times)
    script = <<~RUBY
      require "socket"
      socket = TCPSocket.new("127.0.0.1", #{port})
      #{times}.times do
        socket.write("GET /plaintext HTTP/1.1\\r\\nhost: localhost\\r\\naccept: */*\\r\\n\\r\\n")
        socket.readpartial(4096)
      end
    RUBY
    pid = Process.spawn(RbConfig.ruby, "--disable=gems", "-e", script)
    expect(Process.wait2(pid).last).to be_success
  end

  %i[queue inline].each do |dispatch|
    it "are at most two more than the app's own two for a plain GET (#{dispatch})" do
      app = counting.new(400)
      serve(app, dispatch:) { |server| ask(server.port, 400) }
      last = app.counts.last(200)
      each = (last.last - last.first).fdiv(last.size - 1)
      expect(each).to be_between(2, 2 + 2)
    end
  end
end
