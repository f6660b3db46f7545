# frozen_string_literal: true

RSpec.describe "A forked child" do
  it "holds nothing of its parent's servers" do
    reader, writer = IO.pipe
    server = Kino::Server.new(Apps::Hello, mode: :threaded, workers: 1).start
    client = Client.new(server.port)
    client.get("/")
    expect(client.answer.status).to eq 200
    child = fork do
      writer.close
      reader.read # until the parent is done
      exit!(server.running? ? 1 : 0)
    end
    expect(Client.get(server.port, "/").status).to eq 200
    server.shutdown
    expect(client).to be_closed
    expect { Client.new(server.port) }.to raise_error Errno::ECONNREFUSED
    serve(Apps::Hello, port: server.port) { expect(Client.get(_1.port, "/").status).to eq 200 }
    writer.close
    expect(Process.wait2(child).last).to be_success
  ensure
    [client, reader, writer].compact.each(&:close)
  end

  it "can serve by itself" do
    server = Kino::Server.new(Apps::Hello, mode: :threaded, workers: 1).start
    reader, writer = IO.pipe
    child = fork do
      Kino::Server.run(Apps::Hello, mode: :threaded, workers: 1) { writer.puts _1.port }
      exit!(0)
    end
    port = reader.gets.to_i
    expect(Client.get(port, "/").status).to eq 200
    expect(Client.get(server.port, "/").status).to eq 200
    Process.kill(:TERM, child)
    expect(Process.wait2(child).last).to be_success
  ensure
    server&.shutdown
    [reader, writer].compact.each(&:close)
  end
end
