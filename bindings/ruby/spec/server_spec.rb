# frozen_string_literal: true

RSpec.describe Kino::Server do
  # Each setting with values it cannot have.
  {
    bind: [5, "", nil], port: [-1, 65_536, "80", nil, 1.5], workers: [0, -1, "2", 1.5, false],
    threads: [0, "1"], mode: [:rocket, "ractor", nil], dispatch: [:rocket, true], loops: [0, 1.5],
    queue_depth: [0, nil], queue_timeout: [0, -1, "5"], shutdown_timeout: [-1, Float::INFINITY],
    max_connections: [0, 1.5], max_body_size: [0, -5]
  }.each do |name, values|
    values.each do |value|
      it "refuses #{name}: #{value.inspect}, by its name" do
        expect { described_class.new(Apps::Hello, name => value) }
          .to raise_error(ArgumentError, /\A#{name} is #{Regexp.escape(value.inspect)}, but must/)
      end
    end
  end

  it "refuses a setting that it does not know, by its name" do
    expect { described_class.new(Apps::Hello, prot: 1) }
      .to raise_error(ArgumentError, "unknown setting prot")
  end

  it "refuses loops for inline" do
    expect { described_class.new(Apps::Hello, mode: :threaded, dispatch: :inline, loops: 1) }
      .to raise_error(ArgumentError, /loops/)
  end

  it "refuses an app without a method call" do
    expect { described_class.new(Object.new) }.to raise_error(ArgumentError, /call/)
  end

  it "takes nil and false for no limit" do
    limits = %i[queue_timeout shutdown_timeout max_connections max_body_size]
    [nil, false].each do |none|
      serve(Apps::Hello, **limits.to_h { [_1, none] }) do |server|
        expect(Client.get(server.port, "/").status).to eq 200
      end
    end
  end

  it "has a worker for each CPU, and threads by its mode" do
    ractor = described_class.new(Apps::Hello, mode: :ractor)
    threaded = described_class.new(Apps::Hello, mode: :threaded)
    expect([ractor.workers, ractor.threads]).to eq [Kino.available_parallelism, 1]
    expect([threaded.workers, threaded.threads]).to eq [Kino.available_parallelism, 3]
  end

  it "tells port and URL" do
    serve(Apps::Hello, bind: "localhost") do |server|
      expect(server.port).to be_positive
      expect(server.url).to eq "http://localhost:#{server.port}"
    end
  end

  it "listens on IPv6" do
    serve(Rack::Lint.new(Apps::Env), bind: "::1") do |server|
      expect(server.url).to eq "http://[::1]:#{server.port}"
      client = Client.new(server.port, "::1")
      client.write("GET / HTTP/1.0\r\n\r\n")
      env = Apps::Env.strings(client.answer.body)
      expect(env).to include("REMOTE_ADDR" => "::1", "SERVER_NAME" => "[::1]")
    ensure
      client&.close
    end
  end

  it "cuts a body that is too large" do
    serve(Apps::Echo, max_body_size: 10) do |server|
      Client.open(server.port) do |client|
        client.request("POST", "/", body: "x" * 11)
        expect(client.answer.status).to eq 413
      end
    end
  end

  it "runs until it is shut down" do
    server = described_class.new(Apps::Hello, mode: :threaded, workers: 1)
    expect(server).not_to be_running
    started = Queue.new
    runner = Thread.new { server.run { started << _1 } }
    expect(started.pop).to be server
    expect(server).to be_running
    expect(server.wait(0)).to be_nil
    expect(server.shutdown).to be true
    expect(runner.value).to be true
    expect(server).not_to be_running
    expect { Client.new(server.port) }.to raise_error Errno::ECONNREFUSED
  end

  it "is stopped by a signal that comes before it says that it runs" do
    server = described_class.new(Apps::Hello, mode: :threaded, workers: 1)
    allow(Kino::Native::Server).to receive(:new).and_wrap_original do |create, *arguments|
      Process.kill(:TERM, Process.pid)
      create.call(*arguments)
    end
    expect(server.run).to be true
  end

  it "restores the handlers of signals" do
    server = described_class.new(Apps::Hello, mode: :threaded, workers: 1)
    handler = trap(:TERM, "DEFAULT")
    server.run { server.shutdown }
    expect(trap(:TERM, handler || "DEFAULT")).to eq "DEFAULT"
  end

  it "can be shut down again" do
    server = described_class.new(Apps::Hello, mode: :threaded, workers: 1).start
    expect([server.shutdown, server.shutdown]).to eq [true, true]
  end

  it "cannot be started again" do
    serve(Apps::Hello) do |server|
      expect { server.start }.to raise_error(Kino::Error, /started before/)
    end
  end

  it "names address and remedy when the port is in use" do
    serve(Apps::Hello) do |server|
      other = described_class.new(Apps::Hello, mode: :threaded, port: server.port)
      expect { other.start }
        .to raise_error(Kino::Error, /127\.0\.0\.1:#{server.port}.*choose another port/)
      expect(Client.get(server.port, "/").status).to eq 200
    end
  end

  it "names a host that cannot be resolved" do
    server = described_class.new(Apps::Hello, mode: :threaded, bind: "no-such-host.invalid")
    expect { server.start }.to raise_error(Kino::Error, /no-such-host\.invalid/)
  end

  it "gives up handlers that do not come back in time" do
    reader, writer = IO.pipe
    arrivals, arrived = IO.pipe
    server = described_class.new(Apps::Waiting, mode: :threaded, workers: 1, threads: 1,
                                                shutdown_timeout: 0.1).start
    Client.open(server.port) do |client|
      client.get("/?#{arrived.fileno}-#{reader.fileno}")
      arrivals.read(1)
      expect(server.shutdown).to be false
      expect(client).to be_closed
    end
  ensure
    writer&.write(".")
  end

  # Each request waits until all have arrived, so they must be handled side by side.
  Serving::WAYS.each do |way|
    it "handles as many requests at once as there are threads: #{way.values.join(', ')}" do
      pipes = Array.new(2) { IO.pipe }
      (arrivals, arrived), (go, start) = pipes
      serve(Apps::Waiting, workers: 2, threads: 2, **way) do |server|
        clients = []
        # Inline, connections are spread by the kernel: more are tried until all threads have one.
        clients << Client.new(server.port) while clients.size < 64
        clients.each { _1.get("/?#{arrived.fileno}-#{go.fileno}") }
        arrivals.read(4)
        start.write("." * clients.size)
        expect(clients.map { _1.answer.status }).to eq [200] * clients.size
      ensure
        clients&.each(&:close)
      end
    ensure
      pipes&.flatten&.each(&:close)
    end
  end
end
